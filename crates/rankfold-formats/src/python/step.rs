//! A node of the graph in Python: the module that it needs.

use std::fmt::Write;

use rankfold_graph::ops::{Conv, ConvTranspose};
use rankfold_graph::{Graph, Node, Op, Weights};

use super::{Names, python_bool, tuple, uneven};
use crate::error::FormatError;

/// One node and the names around it.
pub(super) struct Step<'a> {
    pub(super) graph: &'a Graph,
    pub(super) node: &'a Node,
    pub(super) names: &'a Names,
}

impl Step<'_> {
    fn weights(&self) -> &Weights {
        self.graph.weights()
    }

    pub(super) fn input(&self, i: usize) -> &str {
        self.names.of(self.node.inputs[i])
    }

    /// The module that a weight of this suffix belongs to.
    pub(super) fn owner<'w>(&self, weight: &'w str, suffix: &str) -> Result<&'w str, FormatError> {
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
    pub(super) fn module(&self) -> Result<Option<(String, String)>, FormatError> {
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
            | Op::Quantize(_)
            | Op::Dropout(_)
            | Op::Softmax(_)
            | Op::MatMul(_)
            | Op::Attention(_)
            | Op::Mean(_)
            | Op::Opaque(_) => Ok(None),
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
}
