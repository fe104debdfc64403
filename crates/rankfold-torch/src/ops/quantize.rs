//! Rounding to 8 bits and back.

use rankfold_graph::ops::Quantize;
use tch::Kind;

use super::{Call, OpResult};

/// Gradients pass where nothing is cut off, as if there were no rounding.
pub(super) fn quantize(op: &Quantize, call: &Call<'_>) -> OpResult {
    let input = call.input(0)?;
    let kind = input.f_kind()?;
    let (scale, zero) = (f64::from(op.scale), op.zero_point.into());
    // libtorch has it for f32 only.
    let rounded = input
        .f_to_kind(Kind::Float)?
        .f_fake_quantize_per_tensor_affine(scale, zero, 0, 255)?;
    Ok(rounded.f_to_kind(kind)?)
}
