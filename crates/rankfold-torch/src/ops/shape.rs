//! Other shapes of the same elements.

use rankfold_graph::ops::{
    Concat, Expand, Flatten, Pad, Permute, Reshape, Slice, Split, Squeeze, Unsqueeze,
};
use tch::Tensor;

use super::{Call, Fault, OpResult, pad_trailing, sizes};

pub(super) fn concat(op: &Concat, call: &Call<'_>) -> OpResult {
    Ok(Tensor::f_cat(call.inputs, op.axis)?)
}

pub(super) fn split(op: &Split, call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    Ok(call
        .input(0)?
        .f_split_with_sizes(sizes(&op.sizes), op.axis)?)
}

pub(super) fn slice(op: &Slice, call: &Call<'_>) -> OpResult {
    Ok(call
        .input(0)?
        .f_slice(op.axis, op.start, op.end, op.step as i64)?)
}

pub(super) fn flatten(op: &Flatten, call: &Call<'_>) -> OpResult {
    Ok(call.input(0)?.f_flatten(op.start, op.end)?)
}

pub(super) fn reshape(op: &Reshape, call: &Call<'_>) -> OpResult {
    let input = call.input(0)?;
    let own = input.size();
    let shape: Option<Vec<i64>> = (op.shape.iter().enumerate())
        .map(|(i, &n)| if n == 0 { own.get(i).copied() } else { Some(n) })
        .collect();
    let shape = shape.ok_or(Fault::Unsupported("the input has too few dimensions"))?;
    Ok(input.f_reshape(shape)?)
}

pub(super) fn permute(op: &Permute, call: &Call<'_>) -> OpResult {
    Ok(call.input(0)?.f_permute(sizes(&op.dims))?)
}

pub(super) fn squeeze(op: &Squeeze, call: &Call<'_>) -> OpResult {
    Ok(call.input(0)?.f_squeeze_dims(&op.axes[..])?)
}

pub(super) fn unsqueeze(op: &Unsqueeze, call: &Call<'_>) -> OpResult {
    let mut result = call.input(0)?.shallow_clone();
    let rank = (result.dim() + op.axes.len()) as i64;
    let mut axes: Vec<i64> = op
        .axes
        .iter()
        .map(|&a| if a < 0 { a + rank } else { a })
        .collect();
    axes.sort_unstable();
    for axis in axes {
        result = result.f_unsqueeze(axis)?;
    }
    Ok(result)
}

pub(super) fn expand(op: &Expand, call: &Call<'_>) -> OpResult {
    let mut shape = op.shape.clone();
    if op.batch_of
        && let Some(first) = shape.first_mut()
    {
        *first = *call
            .input(1)?
            .size()
            .first()
            .ok_or(Fault::Unsupported("no batch dimension"))?;
    }
    Ok(call.input(0)?.f_expand(shape, false)?)
}

pub(super) fn pad(op: &Pad, call: &Call<'_>) -> OpResult {
    Ok(pad_trailing(call.input(0)?, &op.padding, op.value)?)
}
