//! What the nodes of a program mean in a graph. A node that is not wholly understood means nothing.

mod conv;
mod elementwise;
mod linear;
mod norm;
mod pool;
mod shape;

use rankfold_graph::{Tensor, WeightName};

use super::import::Import;
use super::schema::FileNode;

/// An input of a graph's node.
#[derive(Debug, Clone)]
pub(super) enum Arg {
    /// What the file calls so.
    Named(String),
    /// The output of the step before.
    Previous,
}

impl Arg {
    pub(super) fn named(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

/// A node of the graph that is to be made.
pub(super) type Step = crate::imported::Step<Arg>;

impl Import<'_> {
    /// The graph's nodes for `node`, none where it is not understood with all its arguments.
    pub(super) fn convert(&self, node: &FileNode) -> Option<Vec<Step>> {
        let (op, overload) = node.aten()?.split_once('.')?;
        // What writes to its input comes here only where that makes no difference.
        let op = match op.strip_suffix('_') {
            Some(stem) if !stem.is_empty() => stem,
            _ => op,
        };
        let single = |step: Option<Step>| step.map(|s| vec![s]);
        match (op, overload) {
            ("conv1d" | "conv2d", _) => single(self.conv(node)),
            ("convolution" | "_convolution", "default" | "deprecated") => {
                single(self.convolution(node))
            }
            ("conv_transpose1d", "default") | ("conv_transpose2d", "input") => {
                single(self.conv_transpose(node))
            }
            ("linear", "default") => single(self.linear(node)),
            ("addmm", "default") => single(self.addmm(node)),
            ("mm", "default") => single(self.matmul(node, "self", "mat2")),
            ("bmm", "default") => single(self.matmul(node, "self", "mat2")),
            ("matmul", "default") => single(self.matmul(node, "self", "other")),
            ("scaled_dot_product_attention", "default") => single(self.attention(node)),
            ("embedding", "default") => single(self.embedding(node)),
            (
                "batch_norm"
                | "_native_batch_norm_legit_no_training"
                | "native_batch_norm"
                | "_native_batch_norm_legit"
                | "cudnn_batch_norm",
                "default",
            ) => single(self.batch_norm(node)),
            ("layer_norm" | "native_layer_norm", "default") => single(self.layer_norm(node)),
            ("group_norm" | "native_group_norm", "default") => single(self.group_norm(node)),
            ("instance_norm", "default") => single(self.instance_norm(node)),
            ("max_pool1d" | "max_pool2d" | "max_pool2d_with_indices", "default") => {
                single(self.max_pool(node))
            }
            ("avg_pool1d" | "avg_pool2d", "default") => single(self.avg_pool(node)),
            ("adaptive_avg_pool1d" | "adaptive_avg_pool2d" | "_adaptive_avg_pool2d", "default") => {
                single(self.adaptive_avg_pool(node))
            }
            ("adaptive_max_pool1d" | "adaptive_max_pool2d", "default") => {
                single(self.adaptive_max_pool(node))
            }
            ("add" | "sub" | "mul" | "div", "Tensor" | "Scalar") | ("rsub", "Scalar") => {
                single(self.arithmetic(node, op))
            }
            ("cat" | "concat" | "concatenate", "default") => single(self.concat(node)),
            ("split", "Tensor") | ("chunk" | "split_with_sizes", "default") => {
                single(self.split(node, op))
            }
            ("slice", "Tensor") => single(self.slice(node)),
            ("narrow", "default") => single(self.narrow(node)),
            ("select", "int") => self.select(node),
            ("flatten", "using_ints") => single(self.flatten(node)),
            ("view" | "reshape" | "_unsafe_view", "default") => single(self.reshape(node)),
            ("as_strided", "default") => single(self.as_strided(node)),
            ("unflatten", "int") => single(self.unflatten(node)),
            ("permute", "default") => single(self.permute(node)),
            ("transpose" | "swapaxes" | "swapdims", "int" | "default") => {
                single(self.transpose(node))
            }
            ("t", "default") => single(self.turn(node)),
            ("unsqueeze", "default") => single(self.unsqueeze(node)),
            ("squeeze", "dim" | "dims") => single(self.squeeze(node)),
            ("expand", "default") => single(self.expand(node)),
            ("pad" | "constant_pad_nd", "default") => single(self.pad(node)),
            ("mean", "dim" | "default") => single(self.mean(node)),
            ("softmax" | "log_softmax", "int") | ("_softmax" | "_log_softmax", "default") => {
                single(self.softmax(node, op.contains("log")))
            }
            ("dropout" | "native_dropout" | "feature_dropout", "default") => {
                single(self.dropout(node))
            }
            ("fake_quantize_per_tensor_affine", "default") => single(self.quantize(node)),
            _ => single(self.activation(node, op, overload)),
        }
    }

    /// A value that the node takes as a tensor.
    pub(super) fn value(&self, node: &FileNode, name: &str) -> Option<Arg> {
        node.tensor(name).map(Arg::named)
    }

    /// The weight that the node takes.
    pub(super) fn weight_of(&self, node: &FileNode, name: &str) -> Option<(WeightName, &Tensor)> {
        self.weight(node.tensor(name)?)
    }

    /// The weight that the node takes, where it takes one.
    pub(super) fn optional(&self, node: &FileNode, name: &str) -> Option<Option<WeightName>> {
        match node.has(name) {
            false => Some(None),
            true => Some(Some(self.weight_of(node, name)?.0)),
        }
    }

    /// The number of dimensions of a value.
    pub(super) fn rank(&self, name: &str) -> Option<usize> {
        self.fact(name)?.shape.map(|shape| shape.len())
    }

    pub(super) fn is_float(&self, name: &str) -> bool {
        self.fact(name).is_some_and(|f| f.dtype.is_float())
    }
}

/// `values` as sizes: one for each of `len` dimensions, or one for all; `default` where there is none.
pub(super) fn spread(values: &[i64], len: usize, default: usize) -> Option<Vec<usize>> {
    let size = |&v: &i64| usize::try_from(v).ok();
    match values {
        [] => Some(vec![default; len]),
        [one] => Some(vec![size(one)?; len]),
        _ if values.len() == len => values.iter().map(size).collect(),
        _ => None,
    }
}
