//! Normalisations with learned scale and shift.

use rankfold_graph::WeightName;
use rankfold_graph::ops::{BatchNorm, GroupNorm, LayerNorm};
use tch::Tensor;

use super::{Call, Fault, Mode, OpResult};

/// Scale and shift, where the op has them, and the weights that follow.
fn affine<'a>(
    scale: &Option<WeightName>,
    shift: &Option<WeightName>,
    call: &Call<'a>,
) -> (Option<&'a Tensor>, Option<&'a Tensor>, &'a [Tensor]) {
    let mut rest = call.weights;
    let mut take = |wanted: bool| {
        let (first, others) = rest.split_first().filter(|_| wanted)?;
        rest = others;
        Some(first)
    };
    let scale = take(scale.is_some());
    let shift = take(shift.is_some());
    (scale, shift, rest)
}

pub(super) fn batch_norm(op: &BatchNorm, call: &Call<'_>) -> OpResult {
    let (scale, shift, statistics) = affine(&op.scale, &op.shift, call);
    let [mean, var] = statistics else {
        return Err(Fault::Unsupported("the running statistics are missing"));
    };
    let (training, momentum) = match call.mode {
        Mode::Training => (true, op.momentum),
        Mode::Statistics { momentum } => (true, momentum),
        Mode::Inference | Mode::FrozenStatistics => (false, op.momentum),
    };
    Ok(call.input(0)?.f_batch_norm(
        scale,
        shift,
        Some(mean),
        Some(var),
        training,
        momentum,
        op.eps,
        true,
    )?)
}

pub(super) fn layer_norm(op: &LayerNorm, call: &Call<'_>) -> OpResult {
    let (scale, shift, _) = affine(&op.scale, &op.shift, call);
    Ok(call
        .input(0)?
        .f_layer_norm(super::sizes(&op.shape), scale, shift, op.eps, true)?)
}

pub(super) fn group_norm(op: &GroupNorm, call: &Call<'_>) -> OpResult {
    let (scale, shift, _) = affine(&op.scale, &op.shift, call);
    Ok(call
        .input(0)?
        .f_group_norm(op.groups as i64, scale, shift, op.eps, true)?)
}
