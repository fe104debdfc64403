//! What a node costs: parameters, multiply-accumulates, bytes.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Node};
use crate::op::{Op, Role};
use crate::shape::Fact;

/// The side lengths that Astrid & Lee's Table 5 counts for a convolution: `H` before, `H'` after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaperSize {
    /// Side length of the input, as printed in the paper.
    pub input: usize,
    /// Side length of the output.
    pub output: usize,
}

/// How multiply-accumulates are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CostModel {
    /// By the true sizes.
    #[default]
    True,
    /// By the sizes printed in Astrid & Lee, convolutions and linear layers alone.
    Paper,
}

/// What a node, or a whole graph, costs for one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Learnable numbers, biases and normalisations included.
    pub parameters: u64,
    /// Numbers in the kernels of convolutions and linear layers alone.
    pub weights: u64,
    /// Learnable numbers and running statistics.
    pub parameters_with_buffers: u64,
    /// Multiply-accumulates; what cannot be counted is left out.
    pub macs: u64,
    /// Bytes of all weights as stored.
    pub bytes: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.parameters += other.parameters;
        self.weights += other.weights;
        self.parameters_with_buffers += other.parameters_with_buffers;
        self.macs = self.macs.saturating_add(other.macs);
        self.bytes += other.bytes;
    }
}

impl Graph {
    /// The cost of every node, in order; a tied weight counts where it is met first.
    ///
    /// None under [`CostModel::Paper`] where a convolution has no printed size.
    pub fn costs(&self, model: CostModel) -> Option<Vec<Cost>> {
        let mut seen = HashSet::new();
        self.nodes
            .iter()
            .map(|node| {
                let mut cost = Cost {
                    macs: self.node_macs(node, model)?,
                    ..Cost::default()
                };
                for (role, name) in node.op.weights() {
                    let Some(tensor) = self.weights.get(name).filter(|_| seen.insert(name)) else {
                        continue;
                    };
                    let numbers = tensor.len() as u64;
                    cost.bytes += tensor.stored_bytes() as u64;
                    if role.is_learnable() {
                        cost.parameters += numbers;
                    }
                    if role != Role::Constant {
                        cost.parameters_with_buffers += numbers;
                    }
                    if role == Role::Kernel {
                        cost.weights += numbers;
                    }
                }
                Some(cost)
            })
            .collect()
    }

    /// The cost of the whole graph.
    pub fn cost(&self, model: CostModel) -> Option<Cost> {
        let mut total = Cost::default();
        for cost in self.costs(model)? {
            total += cost;
        }
        Some(total)
    }

    fn node_macs(&self, node: &Node, model: CostModel) -> Option<u64> {
        match (model, &node.op) {
            (CostModel::True, _) => {
                let facts =
                    |ids: &[_]| -> Vec<&Fact> { ids.iter().map(|&id| self.fact(id)).collect() };
                let (inputs, outputs) = (facts(&node.inputs), facts(&node.outputs));
                Some(node.op.macs(&inputs, &outputs, &self.weights).unwrap_or(0))
            }
            (CostModel::Paper, Op::Conv(conv)) => {
                let kernel = self.weights.get(&conv.weight)?.len() as u64;
                let side = node.paper_size?.output as u64;
                Some(kernel * side * side)
            }
            (CostModel::Paper, Op::Linear(linear)) => {
                Some(self.weights.get(&linear.weight)?.len() as u64)
            }
            (CostModel::Paper, _) => Some(0),
        }
    }
}
