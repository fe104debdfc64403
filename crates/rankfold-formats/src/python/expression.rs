//! A node of the graph in Python: what is computed from its inputs.

use std::fmt::Write;

use rankfold_graph::Op;
use rankfold_graph::ops::{Activation, Arithmetic};

use super::step::Step;
use super::{python_bool, tuple, uneven};
use crate::error::FormatError;

impl Step<'_> {
    /// What the node computes, from its inputs.
    pub(super) fn expression(&self) -> Result<String, FormatError> {
        let call = |path: &str| format!("m({path:?})({})", self.input(0));
        let x = || self.input(0);
        Ok(match &self.node.op {
            Op::Conv(conv) => {
                let path = self.owner(&conv.weight, "weight")?;
                match uneven(&conv.padding) {
                    None => call(path),
                    Some(pad) => format!("m({path:?})(F.pad({}, {pad}))", x()),
                }
            }
            Op::ConvTranspose(conv) => call(self.owner(&conv.weight, "weight")?),
            Op::Linear(linear) => call(self.owner(&linear.weight, "weight")?),
            Op::BatchNorm(norm) => call(self.owner(&norm.mean, "running_mean")?),
            Op::LayerNorm(norm) => match &norm.scale {
                Some(scale) => call(self.owner(scale, "weight")?),
                None => format!(
                    "F.layer_norm({}, {:?}, eps={:?})",
                    x(),
                    norm.shape,
                    norm.eps
                ),
            },
            Op::GroupNorm(norm) => match &norm.scale {
                Some(scale) => call(self.owner(scale, "weight")?),
                None => format!("F.group_norm({}, {}, eps={:?})", x(), norm.groups, norm.eps),
            },
            Op::Embedding(table) => call(self.owner(&table.weight, "weight")?),
            Op::Constant(constant) => match constant.weight.rsplit_once('.') {
                Some((path, name)) => format!("getattr(m({path:?}), {name:?})"),
                None => format!("getattr(self, {:?})", &*constant.weight),
            },
            Op::LocalResponseNorm(norm) => format!(
                "F.local_response_norm({}, {}, alpha={:?}, beta={:?}, k={:?})",
                x(),
                norm.size,
                norm.alpha,
                norm.beta,
                norm.k
            ),
            Op::Activation(activation) => activation_call(activation, x()),
            Op::MaxPool(pool) => {
                let (inner, before) = pool_input(x(), &pool.padding, "-float(\"inf\")");
                format!(
                    "F.max_pool{}d({inner}, {}, stride={}, padding={before}, dilation={}, ceil_mode={})",
                    pool.kernel.len(),
                    tuple(&pool.kernel),
                    tuple(&pool.stride),
                    tuple(&pool.dilation),
                    python_bool(pool.ceil)
                )
            }
            Op::AvgPool(pool) => {
                if uneven(&pool.padding).is_some() && !pool.count_include_pad {
                    return Err(self.unsupported("uneven padding left out of the mean"));
                }
                let (inner, before) = pool_input(x(), &pool.padding, "0.0");
                format!(
                    "F.avg_pool{}d({inner}, {}, stride={}, padding={before}, ceil_mode={}, count_include_pad={})",
                    pool.kernel.len(),
                    tuple(&pool.kernel),
                    tuple(&pool.stride),
                    python_bool(pool.ceil),
                    python_bool(pool.count_include_pad)
                )
            }
            Op::AdaptiveAvgPool(pool) => adaptive("avg", x(), &pool.output),
            Op::AdaptiveMaxPool(pool) => adaptive("max", x(), &pool.output),
            Op::Binary(binary) => {
                format!("{} {} {}", x(), sign(binary.arithmetic), self.input(1))
            }
            Op::BinaryScalar(binary) => match binary.reversed {
                false => format!("{} {} {:?}", x(), sign(binary.arithmetic), binary.scalar),
                true => format!("{:?} {} {}", binary.scalar, sign(binary.arithmetic), x()),
            },
            Op::Concat(concat) => {
                let parts: Vec<&str> = (0..self.node.inputs.len()).map(|i| self.input(i)).collect();
                format!("torch.cat([{}], dim={})", parts.join(", "), concat.axis)
            }
            Op::Split(split) => {
                let comma = if split.sizes.len() == 1 { "[0]" } else { "" };
                format!(
                    "torch.split({}, {:?}, dim={}){comma}",
                    x(),
                    split.sizes,
                    split.axis
                )
            }
            Op::Slice(slice) => self.slice(slice.axis, slice.start, slice.end, slice.step)?,
            Op::Flatten(flatten) => {
                format!("torch.flatten({}, {}, {})", x(), flatten.start, flatten.end)
            }
            Op::Reshape(reshape) => {
                let sizes: Vec<String> = (reshape.shape.iter().enumerate())
                    .map(|(i, &size)| match size {
                        0 => format!("{}.shape[{i}]", x()),
                        size => size.to_string(),
                    })
                    .collect();
                format!("{}.reshape({})", x(), sizes.join(", "))
            }
            Op::Permute(permute) => format!("{}.permute({})", x(), tuple(&permute.dims)),
            Op::Squeeze(squeeze) => format!("{}.squeeze({})", x(), tuple(&squeeze.axes)),
            Op::Unsqueeze(unsqueeze) => {
                let mut axes = unsqueeze.axes.clone();
                let mixed = axes.iter().any(|&a| a < 0) && axes.iter().any(|&a| a >= 0);
                if mixed {
                    return Err(self.unsupported("axes from both ends"));
                }
                axes.sort_unstable();
                if axes.first().is_some_and(|&a| a < 0) {
                    axes.reverse();
                }
                let added: String = axes.iter().map(|a| format!(".unsqueeze({a})")).collect();
                format!("{}{added}", x())
            }
            Op::Expand(expand) => {
                let sizes: Vec<String> = (expand.shape.iter().enumerate())
                    .map(|(i, &size)| match expand.batch_of && i == 0 {
                        true => format!("{}.shape[0]", self.input(1)),
                        false => size.to_string(),
                    })
                    .collect();
                format!("{}.expand({})", x(), sizes.join(", "))
            }
            Op::Pad(pad) => {
                let sizes: Vec<i64> = pad.padding.iter().rev().flatten().copied().collect();
                format!("F.pad({}, {}, value={:?})", x(), tuple(&sizes), pad.value)
            }
            Op::Quantize(op) => format!(
                "torch.fake_quantize_per_tensor_affine({}, {:?}, {}, 0, 255)",
                x(),
                f64::from(op.scale),
                op.zero_point
            ),
            Op::Dropout(dropout) => format!("F.dropout({}, {:?}, self.training)", x(), dropout.p),
            Op::Softmax(softmax) => {
                let log = if softmax.log { "log_" } else { "" };
                format!("F.{log}softmax({}, dim={})", x(), softmax.axis)
            }
            Op::MatMul(_) => format!("{} @ {}", x(), self.input(1)),
            Op::Attention(attention) => {
                let mask = match self.node.inputs.len() {
                    4 => format!(", attn_mask={}", self.input(3)),
                    _ => String::new(),
                };
                let scale = match attention.scale {
                    Some(scale) => format!(", scale={scale:?}"),
                    None => String::new(),
                };
                format!(
                    "F.scaled_dot_product_attention({}, {}, {}{mask}, is_causal={}{scale})",
                    x(),
                    self.input(1),
                    self.input(2),
                    python_bool(attention.causal)
                )
            }
            Op::Mean(mean) => format!(
                "{}.mean({}, keepdim={})",
                x(),
                tuple(&mean.axes),
                python_bool(mean.keep)
            ),
            Op::Opaque(opaque) => return Err(self.unsupported(&opaque.target)),
        })
    }

    fn unsupported(&self, what: &str) -> FormatError {
        FormatError::PythonOp {
            node: self.node.name.clone(),
            what: what.to_owned(),
        }
    }

    /// Python indexing along one axis.
    fn slice(
        &self,
        axis: i64,
        start: i64,
        end: Option<i64>,
        step: usize,
    ) -> Result<String, FormatError> {
        let rank = self
            .graph
            .fact(self.node.inputs[0])
            .shape
            .as_ref()
            .map(Vec::len);
        let axis = match (usize::try_from(axis), rank) {
            (Ok(axis), _) => axis,
            (Err(_), Some(rank)) => (axis + rank as i64) as usize,
            (Err(_), None) => return Err(self.unsupported("a slice of unknown rank")),
        };
        let part = |n: i64| if n == 0 { String::new() } else { n.to_string() };
        let mut range = format!(
            "{}:{}",
            part(start),
            end.map(|n| n.to_string()).unwrap_or_default()
        );
        if step != 1 {
            let _ = write!(range, ":{step}");
        }
        Ok(format!("{}[{}{range}]", self.input(0), ":, ".repeat(axis)))
    }
}

/// The input of a pool, padded by hand where the padding is uneven, and what padding is left.
fn pool_input(x: &str, padding: &[[usize; 2]], value: &str) -> (String, String) {
    match uneven(padding) {
        Some(sizes) => (
            format!("F.pad({x}, {sizes}, value={value})"),
            "0".to_owned(),
        ),
        None => {
            let before: Vec<usize> = padding.iter().map(|p| p[0]).collect();
            (x.to_owned(), tuple(&before))
        }
    }
}

fn adaptive(kind: &str, x: &str, output: &[usize]) -> String {
    format!(
        "F.adaptive_{kind}_pool{}d({x}, {})",
        output.len(),
        tuple(output)
    )
}

fn sign(arithmetic: Arithmetic) -> &'static str {
    match arithmetic {
        Arithmetic::Add => "+",
        Arithmetic::Sub => "-",
        Arithmetic::Mul => "*",
        Arithmetic::Div => "/",
    }
}

fn activation_call(activation: &Activation, x: &str) -> String {
    match activation {
        Activation::Relu => format!("F.relu({x})"),
        Activation::Relu6 => format!("F.relu6({x})"),
        Activation::LeakyRelu { slope } => format!("F.leaky_relu({x}, {slope:?})"),
        Activation::Elu { alpha } => format!("F.elu({x}, {alpha:?})"),
        Activation::Gelu { tanh: true } => format!("F.gelu({x}, approximate=\"tanh\")"),
        Activation::Gelu { tanh: false } => format!("F.gelu({x})"),
        Activation::Silu => format!("F.silu({x})"),
        Activation::Sigmoid => format!("torch.sigmoid({x})"),
        Activation::Tanh => format!("torch.tanh({x})"),
        Activation::HardSwish => format!("F.hardswish({x})"),
        Activation::HardSigmoid => format!("F.hardsigmoid({x})"),
        Activation::Mish => format!("F.mish({x})"),
        Activation::Softplus => format!("F.softplus({x})"),
        Activation::Clamp { min, max } => {
            format!("torch.clamp({x}, {}, {})", bound(*min), bound(*max))
        }
        Activation::Exp => format!("torch.exp({x})"),
        Activation::Sqrt => format!("torch.sqrt({x})"),
        Activation::Abs => format!("torch.abs({x})"),
        Activation::Neg => format!("-{x}"),
        Activation::Pow { exponent } => format!("{x} ** {exponent:?}"),
        Activation::Identity => x.to_owned(),
    }
}

fn bound(value: f64) -> String {
    match value.is_finite() {
        true => format!("{value:?}"),
        false => "None".to_owned(),
    }
}
