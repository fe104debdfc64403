//! A graph as a PyTorch module: source text that builds the network and loads `model.safetensors`.

use std::collections::HashMap;
use std::fmt::Write;

use rankfold_graph::ops::{Activation, Arithmetic, Conv, ConvTranspose};
use rankfold_graph::{Graph, Node, Op, ValueId, Weights};

use crate::error::FormatError;

/// The Python source of a module that computes what the graph computes.
///
/// The module's parameters have the names of the graph's weights, so that the file written beside it
/// loads with `strict=True`.
pub fn python_module(graph: &Graph) -> Result<String, FormatError> {
    let names = Names::new(graph);
    let mut modules = String::new();
    let mut forward = String::new();
    for node in graph.nodes() {
        let step = Step {
            graph,
            node,
            names: &names,
        };
        if let Some((path, construction)) = step.module()? {
            let _ = writeln!(modules, "        nest(self, {path:?}, {construction})");
        }
        let outputs: Vec<&str> = node.outputs.iter().map(|&id| names.of(id)).collect();
        let _ = writeln!(
            forward,
            "        {} = {}",
            outputs.join(", "),
            step.expression()?
        );
    }
    let inputs: Vec<&str> = graph.inputs().iter().map(|&id| names.of(id)).collect();
    let outputs: Vec<&str> = graph.outputs().iter().map(|&id| names.of(id)).collect();
    let class = class_name(&graph.meta().name);
    Ok(format!(
        r#""""{name}, written by Rankfold: the network whose weights are in model.safetensors."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F


def nest(root, path, child):
    """Puts a module or a parameter where its dotted name says."""
    *folders, name = path.split(".")
    for folder in folders:
        if folder not in root._modules:
            root.add_module(folder, nn.Module())
        root = root._modules[folder]
    if isinstance(child, nn.Parameter):
        root.register_parameter(name, child)
    elif isinstance(child, torch.Tensor):
        root.register_buffer(name, child)
    else:
        root.add_module(name, child)


class {class}(nn.Module):
    def __init__(self):
        super().__init__()
{modules}
    def forward(self, {arguments}):
        m = self.get_submodule
{forward}        return {results}


def load(path=Path(__file__).with_name("model.safetensors")):
    """The network with its weights, ready for inference."""
    model = {class}()
    model.load_state_dict(load_file(path), strict=True)
    return model.eval()


if __name__ == "__main__":
    print(load())
"#,
        name = graph.meta().name,
        arguments = inputs.join(", "),
        results = outputs.join(", "),
    ))
}

/// `resnet20` as `Resnet20`.
fn class_name(name: &str) -> String {
    let mut class: String = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .map(|part| part[..1].to_ascii_uppercase() + &part[1..])
        .collect();
    if !class.starts_with(|c: char| c.is_ascii_alphabetic()) {
        class.insert_str(0, "Model");
    }
    class
}

/// Values as Python variables: their names where those are possible, made unique.
struct Names(Vec<String>);

impl Names {
    const TAKEN: [&'static str; 22] = [
        "self", "m", "F", "nn", "torch", "Path", "nest", "load", "and", "as", "class", "def",
        "del", "for", "from", "if", "import", "in", "is", "not", "or", "return",
    ];

    fn new(graph: &Graph) -> Self {
        let mut used: HashMap<String, usize> = HashMap::new();
        let name = |value: &rankfold_graph::Value| {
            let mut name: String = (value.name.chars())
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect();
            if name.starts_with(|c: char| c.is_ascii_digit()) || Self::TAKEN.contains(&&*name) {
                name.insert(0, '_');
            }
            let times = used.entry(name.clone()).or_default();
            *times += 1;
            match *times {
                1 => name,
                n => format!("{name}__{n}"),
            }
        };
        Self(graph.values().iter().map(name).collect())
    }

    fn of(&self, id: ValueId) -> &str {
        &self.0[id.index()]
    }
}

/// One node and the names around it.
struct Step<'a> {
    graph: &'a Graph,
    node: &'a Node,
    names: &'a Names,
}

impl Step<'_> {
    fn weights(&self) -> &Weights {
        self.graph.weights()
    }

    fn input(&self, i: usize) -> &str {
        self.names.of(self.node.inputs[i])
    }

    /// The module that a weight of this suffix belongs to.
    fn owner<'w>(&self, weight: &'w str, suffix: &str) -> Result<&'w str, FormatError> {
        let unnamed = || FormatError::PythonName {
            node: self.node.name.clone(),
            weight: weight.to_owned(),
            suffix: suffix.to_owned(),
        };
        let tied = self.graph.weight_uses().get(weight) != Some(&1);
        weight
            .strip_suffix(suffix)
            .and_then(|path| path.strip_suffix('.'))
            .filter(|path| !path.is_empty() && !tied)
            .ok_or_else(unnamed)
    }

    /// The dotted name of the module that the node needs and how it is made.
    fn module(&self) -> Result<Option<(String, String)>, FormatError> {
        let made = |path: &str, text: String| Ok(Some((path.to_owned(), text)));
        match &self.node.op {
            Op::Conv(conv) => made(self.owner(&conv.weight, "weight")?, self.conv(conv)),
            Op::ConvTranspose(conv) => {
                made(self.owner(&conv.weight, "weight")?, self.transposed(conv))
            }
            Op::Linear(linear) => {
                let shape = self.shape(&linear.weight);
                let bias = python_bool(linear.bias.is_some());
                let text = format!("nn.Linear({}, {}, bias={bias})", shape[1], shape[0]);
                made(self.owner(&linear.weight, "weight")?, text)
            }
            Op::BatchNorm(norm) => {
                let channels = self.shape(&norm.mean)[0];
                let rank = self.rank();
                let (eps, affine) = (norm.eps, python_bool(norm.scale.is_some()));
                let kind = if rank == 4 { "2d" } else { "1d" };
                let text = format!(
                    "nn.BatchNorm{kind}({channels}, eps={eps:?}, momentum={:?}, affine={affine})",
                    norm.momentum
                );
                made(self.owner(&norm.mean, "running_mean")?, text)
            }
            Op::LayerNorm(norm) => match &norm.scale {
                None => Ok(None),
                Some(scale) => {
                    let bias = python_bool(norm.shift.is_some());
                    let (shape, eps) = (&norm.shape, norm.eps);
                    let text = format!("nn.LayerNorm({shape:?}, eps={eps:?}, bias={bias})");
                    made(self.owner(scale, "weight")?, text)
                }
            },
            Op::GroupNorm(norm) => match &norm.scale {
                None => Ok(None),
                Some(scale) => {
                    let (channels, eps) = (self.shape(scale)[0], norm.eps);
                    let text = format!("nn.GroupNorm({}, {channels}, eps={eps:?})", norm.groups);
                    made(self.owner(scale, "weight")?, text)
                }
            },
            Op::Embedding(table) => {
                let shape = self.shape(&table.weight);
                let text = format!("nn.Embedding({}, {})", shape[0], shape[1]);
                made(self.owner(&table.weight, "weight")?, text)
            }
            Op::Constant(constant) => {
                let shape = self.shape(&constant.weight);
                let empty = format!("torch.empty({shape:?})");
                let text = match constant.learnable {
                    true => format!("nn.Parameter({empty})"),
                    false => empty,
                };
                made(&constant.weight, text)
            }
            Op::LocalResponseNorm(_)
            | Op::Activation(_)
            | Op::MaxPool(_)
            | Op::AvgPool(_)
            | Op::AdaptiveAvgPool(_)
            | Op::AdaptiveMaxPool(_)
            | Op::Binary(_)
            | Op::BinaryScalar(_)
            | Op::Concat(_)
            | Op::Split(_)
            | Op::Slice(_)
            | Op::Flatten(_)
            | Op::Reshape(_)
            | Op::Permute(_)
            | Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::Expand(_)
            | Op::Pad(_)
            | Op::Dropout(_)
            | Op::Softmax(_)
            | Op::MatMul(_)
            | Op::Attention(_)
            | Op::Mean(_)
            | Op::Opaque(_) => Ok(None),
        }
    }

    /// What the node computes, from its inputs.
    fn expression(&self) -> Result<String, FormatError> {
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

    fn shape(&self, weight: &str) -> Vec<usize> {
        (self.weights().get(weight)).map_or_else(Vec::new, |tensor| tensor.shape().to_vec())
    }

    fn rank(&self) -> usize {
        let shape = &self.graph.fact(self.node.inputs[0]).shape;
        shape.as_ref().map_or(4, Vec::len)
    }

    fn conv(&self, conv: &Conv) -> String {
        let shape = self.shape(&conv.weight);
        let padding: Vec<usize> = match uneven(&conv.padding) {
            None => conv.padding.iter().map(|p| p[0]).collect(),
            Some(_) => vec![0; conv.padding.len()],
        };
        let mut text = format!(
            "nn.Conv{}d({}, {}, {}",
            conv.stride.len(),
            shape[1] * conv.groups,
            shape[0],
            tuple(&shape[2..])
        );
        if conv.stride.iter().any(|&n| n != 1) {
            let _ = write!(text, ", stride={}", tuple(&conv.stride));
        }
        if padding.iter().any(|&n| n != 0) {
            let _ = write!(text, ", padding={}", tuple(&padding));
        }
        if conv.dilation.iter().any(|&n| n != 1) {
            let _ = write!(text, ", dilation={}", tuple(&conv.dilation));
        }
        if conv.groups != 1 {
            let _ = write!(text, ", groups={}", conv.groups);
        }
        let _ = write!(text, ", bias={})", python_bool(conv.bias.is_some()));
        text
    }

    fn transposed(&self, conv: &ConvTranspose) -> String {
        let shape = self.shape(&conv.weight);
        let padding: Vec<usize> = conv.padding.iter().map(|p| p[0]).collect();
        format!(
            "nn.ConvTranspose{}d({}, {}, {}, stride={}, padding={}, output_padding={}, \
             dilation={}, groups={}, bias={})",
            conv.stride.len(),
            shape[0],
            shape[1] * conv.groups,
            tuple(&shape[2..]),
            tuple(&conv.stride),
            tuple(&padding),
            tuple(&conv.output_padding),
            tuple(&conv.dilation),
            conv.groups,
            python_bool(conv.bias.is_some())
        )
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

/// Arguments of `F.pad` where some padding differs before and after.
fn uneven(padding: &[[usize; 2]]) -> Option<String> {
    let even = padding.iter().all(|[before, after]| before == after);
    let sizes: Vec<usize> = padding.iter().rev().flatten().copied().collect();
    (!even).then(|| tuple(&sizes))
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

fn python_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

fn tuple(values: &[impl ToString]) -> String {
    match values {
        [one] => format!("({},)", one.to_string()),
        values => {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            format!("({})", values.join(", "))
        }
    }
}
