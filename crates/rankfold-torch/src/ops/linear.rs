//! Linear layers and tables.

use rankfold_graph::ops::{Constant, Embedding, Linear};
use tch::Tensor;

use super::{Call, OpResult};

pub(super) fn linear(_: &Linear, call: &Call<'_>) -> OpResult {
    Ok(call
        .input(0)?
        .f_linear(call.weight(0)?, call.weights.get(1))?)
}

pub(super) fn embedding(_: &Embedding, call: &Call<'_>) -> OpResult {
    Ok(Tensor::f_embedding(
        call.weight(0)?,
        call.input(0)?,
        -1,
        false,
        false,
    )?)
}

pub(super) fn constant(_: &Constant, call: &Call<'_>) -> OpResult {
    Ok(call.weight(0)?.shallow_clone())
}
