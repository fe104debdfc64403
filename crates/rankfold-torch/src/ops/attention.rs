//! Softmax, matrix products and attention.

use rankfold_graph::ops::{Attention, MatMul, Softmax};
use tch::Tensor;

use super::{Call, OpResult};

pub(super) fn softmax(op: &Softmax, call: &Call<'_>) -> OpResult {
    let input = call.input(0)?;
    Ok(if op.log {
        input.f_log_softmax(op.axis, None)?
    } else {
        input.f_softmax(op.axis, None)?
    })
}

pub(super) fn matmul(_: &MatMul, call: &Call<'_>) -> OpResult {
    Ok(call.input(0)?.f_matmul(call.input(1)?)?)
}

pub(super) fn attention(op: &Attention, call: &Call<'_>) -> OpResult {
    let mask = call.inputs.get(3).copied();
    Ok(Tensor::f_scaled_dot_product_attention(
        call.input(0)?,
        call.input(1)?,
        call.input(2)?,
        mask,
        0.0,
        op.causal,
        op.scale,
        false,
    )?)
}
