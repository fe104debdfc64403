//! Normalisations.

use rankfold_graph::ops::{BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm};

use super::Step;
use crate::onnx::proto::NodeProto;
use crate::onnx::read::Import;

impl Import<'_> {
    pub(super) fn batch_norm(&self, node: &NodeProto) -> Option<Step> {
        if node.int_or("training_mode", 0) != 0 {
            return None;
        }
        let weights: Vec<_> = (1..5)
            .map(|i| self.weight(node, i))
            .collect::<Option<_>>()?;
        let [scale, shift, mean, var] = [0, 1, 2, 3].map(|i| weights[i].0.clone());
        let op = BatchNorm {
            scale: Some(scale),
            shift: Some(shift),
            mean,
            var,
            eps: node.float_or("epsilon", 1e-5),
            momentum: round(1.0 - node.float_or("momentum", 0.9)),
        };
        Some(Step::new(op, [self.input(node, 0)?]).with(weights))
    }

    pub(super) fn layer_norm(&self, node: &NodeProto) -> Option<Step> {
        let scale = self.weight(node, 1)?;
        let shift = match node.arg(2) {
            None => None,
            Some(_) => Some(self.weight(node, 2)?),
        };
        let shape = scale.1.shape().to_vec();
        let axis = node.int_or("axis", -1);
        let trailing = match (axis, self.rank(node.arg(0)?)) {
            (a, _) if a < 0 => usize::try_from(-a).ok()?,
            (a, Some(rank)) => rank.checked_sub(usize::try_from(a).ok()?)?,
            (_, None) => return None,
        };
        if trailing != shape.len() {
            return None;
        }
        let op = LayerNorm {
            scale: Some(scale.0.clone()),
            shift: shift.as_ref().map(|s| s.0.clone()),
            shape,
            eps: node.float_or("epsilon", 1e-5),
        };
        let weights = std::iter::once(scale).chain(shift).collect();
        Some(Step::new(op, [self.input(node, 0)?]).with(weights))
    }

    pub(super) fn group_norm(&self, node: &NodeProto) -> Option<Step> {
        // Before opset 21 there is one scale for each group, which no other framework has.
        let groups = usize::try_from(node.int("num_groups")?).ok()?;
        let (scale, shift) = (self.weight(node, 1)?, self.weight(node, 2)?);
        if self.opset < 21 && groups != self.channels(node)? {
            return None;
        }
        let op = GroupNorm {
            scale: Some(scale.0.clone()),
            shift: Some(shift.0.clone()),
            groups,
            eps: node.float_or("epsilon", 1e-5),
        };
        Some(Step::new(op, [self.input(node, 0)?]).with(vec![scale, shift]))
    }

    /// Every channel is a group of its own.
    pub(super) fn instance_norm(&self, node: &NodeProto) -> Option<Step> {
        let (scale, shift) = (self.weight(node, 1)?, self.weight(node, 2)?);
        let op = GroupNorm {
            scale: Some(scale.0.clone()),
            shift: Some(shift.0.clone()),
            groups: scale.1.len(),
            eps: node.float_or("epsilon", 1e-5),
        };
        Some(Step::new(op, [self.input(node, 0)?]).with(vec![scale, shift]))
    }

    pub(super) fn local_response_norm(&self, node: &NodeProto) -> Option<Step> {
        // Even windows lie the other way round than PyTorch's.
        let size = usize::try_from(node.int("size")?)
            .ok()
            .filter(|s| s % 2 == 1)?;
        let op = LocalResponseNorm {
            size,
            alpha: node.float_or("alpha", 1e-4),
            beta: node.float_or("beta", 0.75),
            k: node.float_or("bias", 1.0),
        };
        Some(Step::new(op, [self.input(node, 0)?]))
    }

    fn channels(&self, node: &NodeProto) -> Option<usize> {
        self.fact(node.arg(0)?)?.shape?.get(1)?.fixed()
    }
}

/// One minus an f32 has noise in its last digits.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
