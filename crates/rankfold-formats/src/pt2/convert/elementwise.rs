//! Functions of single elements, arithmetic, softmax.

use rankfold_graph::ops::{
    Activation, Arithmetic, Binary, BinaryScalar, Dropout, Quantize, Softmax,
};

use super::{Arg, Step};
use crate::pt2::import::Import;
use crate::pt2::schema::{FileNode, number_of};

impl Import<'_> {
    pub(super) fn activation(&self, node: &FileNode, op: &str, overload: &str) -> Option<Step> {
        let input = node.tensor("self").or(node.tensor("input"))?;
        let op = match (op, overload) {
            ("relu", "default") => Activation::Relu,
            ("relu6", "default") => Activation::Relu6,
            ("hardtanh", "default") => {
                let bounds = (
                    node.number_or("min_val", -1.0)?,
                    node.number_or("max_val", 1.0)?,
                );
                between(bounds.0, bounds.1)
            }
            ("clamp", "default") if node.has("max") => {
                let max = node.number("max")?;
                match node.has("min") {
                    true => between(node.number("min")?, max),
                    // What an earlier clamp keeps above its bound may be said to be above it.
                    false => between(self.least(input)?, max),
                }
            }
            ("clamp", "default") if node.number("min")? == 0.0 => Activation::Relu,
            ("clamp_min", "default") if node.number("min")? == 0.0 => Activation::Relu,
            ("leaky_relu", "default") => Activation::LeakyRelu {
                slope: node.number_or("negative_slope", 0.01)?,
            },
            ("elu", "default") => {
                let plain = node.number_or("scale", 1.0)? == 1.0;
                (plain && node.number_or("input_scale", 1.0)? == 1.0).then_some(())?;
                Activation::Elu {
                    alpha: node.number_or("alpha", 1.0)?,
                }
            }
            ("gelu", "default") => Activation::Gelu {
                tanh: match node.text("approximate") {
                    None if !node.has("approximate") => false,
                    Some("none") => false,
                    Some("tanh") => true,
                    _ => return None,
                },
            },
            ("silu", "default") => Activation::Silu,
            ("sigmoid", "default") => Activation::Sigmoid,
            ("tanh", "default") => Activation::Tanh,
            ("hardswish", "default") => Activation::HardSwish,
            ("hardsigmoid", "default") => Activation::HardSigmoid,
            ("mish", "default") => Activation::Mish,
            ("softplus", "default") => {
                let plain = node.number_or("beta", 1.0)? == 1.0;
                (plain && node.number_or("threshold", 20.0)? == 20.0).then_some(())?;
                Activation::Softplus
            }
            ("exp", "default") => Activation::Exp,
            ("sqrt", "default") => Activation::Sqrt,
            ("abs", "default") => Activation::Abs,
            ("neg", "default") => Activation::Neg,
            ("pow", "Tensor_Scalar") => Activation::Pow {
                exponent: node.number("exponent")?,
            },
            ("clone" | "contiguous" | "alias" | "detach" | "lift_fresh_copy", "default") => {
                return Some(Step::new(Activation::Identity, [Arg::named(input)]));
            }
            ("_to_copy", "default") | ("to", "dtype") => {
                let dtype = node.scalar_type("dtype")?;
                let same = dtype == number_of(self.fact(input)?.dtype) && !node.has("device");
                return same.then(|| Step::new(Activation::Identity, [Arg::named(input)]));
            }
            _ => return None,
        };
        self.is_float(input)
            .then(|| Step::new(op, [Arg::named(input)]))
    }

    pub(super) fn quantize(&self, node: &FileNode) -> Option<Step> {
        let range = [node.int("quant_min")?, node.int("quant_max")?];
        let op = Quantize::from_file(node.number("scale")?, node.int("zero_point")?, range)?;
        Some(Step::new(op, [Arg::named(node.tensor("self")?)]))
    }

    /// The bound that the node which makes `name` keeps everything above.
    fn least(&self, name: &str) -> Option<f64> {
        let maker = &self.nodes()[self.maker(name)?];
        match maker.aten()? {
            "clamp.default" | "clamp_min.default" => maker.number("min"),
            "relu.default" => Some(0.0),
            _ => None,
        }
    }

    pub(super) fn arithmetic(&self, node: &FileNode, op: &str) -> Option<Step> {
        if node.number_or("alpha", 1.0)? != 1.0 || node.has("rounding_mode") {
            return None;
        }
        let arithmetic = match op {
            "add" => Arithmetic::Add,
            "sub" | "rsub" => Arithmetic::Sub,
            "mul" => Arithmetic::Mul,
            _ => Arithmetic::Div,
        };
        if let Some(b) = node
            .tensor("other")
            .filter(|_| node.tensor("self").is_none())
        {
            let op = BinaryScalar {
                arithmetic,
                scalar: node.number("self")?,
                reversed: true,
            };
            return self.is_float(b).then(|| Step::new(op, [Arg::named(b)]));
        }
        let a = node.tensor("self")?;
        let a_fact = self.fact(a)?;
        if !a_fact.dtype.is_float() {
            return None;
        }
        if let Some(b) = node.tensor("other") {
            let same_type = self.fact(b)?.dtype == a_fact.dtype;
            let inputs = [Arg::named(a), Arg::named(b)];
            return (same_type && op != "rsub").then(|| Step::new(Binary { arithmetic }, inputs));
        }
        let op = BinaryScalar {
            arithmetic,
            scalar: node.number("other")?,
            reversed: op == "rsub",
        };
        Some(Step::new(op, [Arg::named(a)]))
    }

    pub(super) fn softmax(&self, node: &FileNode, log: bool) -> Option<Step> {
        if node.has("dtype") || node.flag_or("half_to_float", false)? {
            return None;
        }
        let axis = node.int("dim")?;
        Some(Step::new(
            Softmax { axis, log },
            [self.value(node, "self")?],
        ))
    }

    pub(super) fn dropout(&self, node: &FileNode) -> Option<Step> {
        let p = node.number_or("p", 0.5)?;
        // While training the result is drawn anew every time.
        if node.flag_or("train", true)? && p != 0.0 {
            return None;
        }
        // The op that writes to its input calls it by another name.
        let input = self
            .value(node, "input")
            .or_else(|| self.value(node, "self"));
        Some(Step::new(Dropout { p }, [input?]))
    }
}

fn between(min: f64, max: f64) -> Activation {
    if (min, max) == (0.0, 6.0) {
        Activation::Relu6
    } else {
        Activation::Clamp { min, max }
    }
}
