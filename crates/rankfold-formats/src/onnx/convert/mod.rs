//! What the nodes of a file mean in a graph. A node that is not wholly understood means nothing.

mod conv;
mod elementwise;
mod linear;
mod norm;
mod pool;
mod quantize;
mod shape;

use rankfold_graph::{Tensor, ValueId, WeightName};

use super::proto::NodeProto;
use super::read::Import;

/// An input of a graph's node.
#[derive(Debug, Clone)]
pub(super) enum Arg {
    /// What the file calls so.
    Named(String),
    /// The output of the step before.
    Previous,
    /// A value of the graph.
    Value(ValueId),
}

impl Arg {
    pub(super) fn named(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

/// A node of the graph that is to be made.
pub(super) type Step = crate::imported::Step<Arg>;

impl Import<'_> {
    /// The graph's nodes for `node`, none where it is not understood with all its attributes.
    pub(super) fn convert(&self, node: &NodeProto) -> Option<Vec<Step>> {
        if !node.is_standard() {
            return None;
        }
        let single = |step: Option<Step>| step.map(|s| vec![s]);
        if node.op_type() != "Split" && !self.only_first_output(node) {
            return None;
        }
        match node.op_type() {
            "Conv" => single(self.conv(node)),
            "ConvTranspose" => single(self.conv_transpose(node)),
            "Gemm" => single(self.gemm(node)),
            "MatMul" => single(self.matmul(node)),
            "BatchNormalization" => single(self.batch_norm(node)),
            "LayerNormalization" => single(self.layer_norm(node)),
            "GroupNormalization" => single(self.group_norm(node)),
            "InstanceNormalization" => single(self.instance_norm(node)),
            "LRN" => single(self.local_response_norm(node)),
            "MaxPool" => single(self.max_pool(node)),
            "AveragePool" => single(self.average_pool(node)),
            "GlobalAveragePool" | "GlobalMaxPool" => single(self.global_pool(node)),
            "Add" | "Sub" | "Mul" | "Div" => single(self.arithmetic(node)),
            "Softmax" | "LogSoftmax" => single(self.softmax(node)),
            "Dropout" => single(self.dropout(node)),
            "Concat" => single(self.concat(node)),
            "Split" => single(self.split(node)),
            "Slice" => self.slice(node),
            "Flatten" => single(self.flatten(node)),
            "Reshape" => single(self.reshape(node)),
            "Transpose" => single(self.transpose(node)),
            "Squeeze" | "Unsqueeze" => single(self.squeeze(node)),
            "Expand" => single(self.expand(node)),
            "Pad" => single(self.pad(node)),
            "ReduceMean" => single(self.mean(node)),
            "Gather" => self.gather(node),
            _ => single(self.activation(node)),
        }
    }

    fn only_first_output(&self, node: &NodeProto) -> bool {
        let rest = node.output.iter().skip(1);
        rest.into_iter()
            .all(|o| o.is_empty() || !self.takers.contains_key(o.as_str()))
            && node.output.len() <= 1
            || node.op_type() == "Dropout" && {
                let mut rest = node.output.iter().skip(1);
                rest.all(|o| o.is_empty() || !self.takers.contains_key(o.as_str()))
            }
    }

    /// The input `index`, where it is a value that the graph can take.
    pub(super) fn input(&self, node: &NodeProto, index: usize) -> Option<Arg> {
        node.arg(index).map(Arg::named)
    }

    /// The constant input `index` under its own name.
    pub(super) fn weight(&self, node: &NodeProto, index: usize) -> Option<(WeightName, Tensor)> {
        let name = node.arg(index)?;
        Some((name.into(), self.constant(name)?.clone()))
    }

    /// A single number.
    pub(super) fn scalar(&self, name: &str) -> Option<f64> {
        let tensor = self.constant(name).filter(|t| t.len() == 1)?;
        match tensor.to_i64() {
            Some(values) => values.first().map(|&v| v as f64),
            None => {
                let value = tensor.to_f32().ok()?.first().copied()?;
                value.to_string().parse().ok()
            }
        }
    }

    /// The number of dimensions of `name`.
    pub(super) fn rank(&self, name: &str) -> Option<usize> {
        Some(self.fact(name)?.shape?.len())
    }
}
