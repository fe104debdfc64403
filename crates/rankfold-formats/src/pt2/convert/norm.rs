//! Normalisations.

use rankfold_graph::ops::{BatchNorm, GroupNorm, LayerNorm};

use super::Step;
use crate::pt2::import::Import;
use crate::pt2::schema::FileNode;

impl Import<'_> {
    pub(super) fn batch_norm(&self, node: &FileNode) -> Option<Step> {
        if node.flag_or("training", false)? {
            return None;
        }
        let op = BatchNorm {
            scale: self.optional(node, "weight")?,
            shift: self.optional(node, "bias")?,
            mean: self.weight_of(node, "running_mean")?.0,
            var: self.weight_of(node, "running_var")?.0,
            eps: node.number("eps").or(node.number("epsilon"))?,
            momentum: node.number_or("momentum", 0.1)?,
        };
        Some(Step::new(op, [self.value(node, "input")?]))
    }

    pub(super) fn layer_norm(&self, node: &FileNode) -> Option<Step> {
        let shape = node.ints("normalized_shape")?;
        let shape: Option<Vec<usize>> = shape.iter().map(|&n| usize::try_from(n).ok()).collect();
        let op = LayerNorm {
            scale: self.optional(node, "weight")?,
            shift: self.optional(node, "bias")?,
            shape: shape?,
            eps: node.number_or("eps", 1e-5)?,
        };
        Some(Step::new(op, [self.value(node, "input")?]))
    }

    pub(super) fn group_norm(&self, node: &FileNode) -> Option<Step> {
        let groups = node.int("num_groups").or(node.int("group"))?;
        let op = GroupNorm {
            scale: self.optional(node, "weight")?,
            shift: self.optional(node, "bias")?,
            groups: usize::try_from(groups).ok()?,
            eps: node.number_or("eps", 1e-5)?,
        };
        Some(Step::new(op, [self.value(node, "input")?]))
    }

    /// Every channel is a group of its own.
    pub(super) fn instance_norm(&self, node: &FileNode) -> Option<Step> {
        let of_batch = node.flag_or("use_input_stats", true)?;
        if !of_batch || node.has("running_mean") || node.has("running_var") {
            return None;
        }
        let shape = self.fact(node.tensor("input")?)?.shape?;
        let op = GroupNorm {
            scale: self.optional(node, "weight")?,
            shift: self.optional(node, "bias")?,
            groups: shape.get(1)?.fixed()?,
            eps: node.number_or("eps", 1e-5)?,
        };
        Some(Step::new(op, [self.value(node, "input")?]))
    }
}
