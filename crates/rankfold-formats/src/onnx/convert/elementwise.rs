//! Functions of single elements, arithmetic, softmax.

use rankfold_graph::ops::{Activation, Arithmetic, Binary, BinaryScalar, Dropout, Softmax};

use super::{Arg, Step};
use crate::onnx::proto::NodeProto;
use crate::onnx::read::Import;

impl Import<'_> {
    pub(super) fn activation(&self, node: &NodeProto) -> Option<Step> {
        let op = match node.op_type() {
            "Relu" => Activation::Relu,
            "LeakyRelu" => Activation::LeakyRelu {
                slope: node.float_or("alpha", 0.01),
            },
            "Elu" => Activation::Elu {
                alpha: node.float_or("alpha", 1.0),
            },
            "Gelu" => Activation::Gelu {
                tanh: match node.text("approximate") {
                    "" | "none" => false,
                    "tanh" => true,
                    _ => return None,
                },
            },
            "Sigmoid" => Activation::Sigmoid,
            "Tanh" => Activation::Tanh,
            "HardSwish" => Activation::HardSwish,
            "HardSigmoid" => {
                let (alpha, beta) = (node.float_or("alpha", 0.2), node.float_or("beta", 0.5));
                if (alpha - 1.0 / 6.0).abs() > 1e-6 || beta != 0.5 {
                    return None;
                }
                Activation::HardSigmoid
            }
            "Mish" => Activation::Mish,
            "Softplus" => Activation::Softplus,
            "Exp" => Activation::Exp,
            "Sqrt" => Activation::Sqrt,
            "Abs" => Activation::Abs,
            "Neg" => Activation::Neg,
            "Identity" => Activation::Identity,
            "Pow" => {
                let exponent = self.scalar(node.arg(1)?)?;
                Activation::Pow { exponent }
            }
            "Clip" => {
                let bound = |i: usize, open: f64| match node.arg(i) {
                    None => Some(open),
                    Some(name) => self.scalar(name),
                };
                let (min, max) = (bound(1, f64::NEG_INFINITY)?, bound(2, f64::INFINITY)?);
                match (min, max) {
                    (0.0, 6.0) => Activation::Relu6,
                    (0.0, f64::INFINITY) => Activation::Relu,
                    _ if min.is_finite() && max.is_finite() => Activation::Clamp { min, max },
                    _ => return None,
                }
            }
            _ => return None,
        };
        self.is_float(node.arg(0)?).then_some(())?;
        Some(Step::new(op, [self.input(node, 0)?]))
    }

    fn is_float(&self, name: &str) -> bool {
        self.fact(name).is_none_or(|f| f.dtype.is_float())
    }

    pub(super) fn arithmetic(&self, node: &NodeProto) -> Option<Step> {
        let arithmetic = match node.op_type() {
            "Add" => Arithmetic::Add,
            "Sub" => Arithmetic::Sub,
            "Mul" => Arithmetic::Mul,
            _ => Arithmetic::Div,
        };
        let (a, b) = (node.arg(0)?, node.arg(1)?);
        if !self.is_float(a) || !self.is_float(b) {
            return None;
        }
        let scalar = |name: &str| {
            let has_no_more_dimensions = self.constant(name)?.shape().len()
                <= self.rank(if name == a { b } else { a }).unwrap_or(0);
            self.scalar(name).filter(|_| has_no_more_dimensions)
        };
        let with = |scalar, reversed, input| {
            let op = BinaryScalar {
                arithmetic,
                scalar,
                reversed,
            };
            Step::new(op, [Arg::named(input)])
        };
        Some(match (scalar(a), scalar(b)) {
            (Some(x), None) => with(x, true, b),
            (None, Some(y)) => with(y, false, a),
            _ => Step::new(Binary { arithmetic }, [Arg::named(a), Arg::named(b)]),
        })
    }

    pub(super) fn softmax(&self, node: &NodeProto) -> Option<Step> {
        let rank = self.rank(node.arg(0)?);
        let axis = if self.opset >= 13 {
            node.int_or("axis", -1)
        } else {
            // All dimensions from the axis on are one: the same only for the last.
            let axis = node.int_or("axis", 1);
            let last = rank? as i64 - 1;
            if axis != -1 && axis != last {
                return None;
            }
            axis
        };
        let log = node.op_type() == "LogSoftmax";
        Some(Step::new(Softmax { axis, log }, [self.input(node, 0)?]))
    }

    pub(super) fn dropout(&self, node: &NodeProto) -> Option<Step> {
        if node
            .arg(2)
            .is_some_and(|name| self.scalar(name) != Some(0.0))
        {
            return None;
        }
        let p = match node.arg(1) {
            Some(name) => self.scalar(name)?,
            None => node.float_or("ratio", 0.5),
        };
        Some(Step::new(Dropout { p }, [self.input(node, 0)?]))
    }
}
