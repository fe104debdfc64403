//! Arithmetic of values, means and dropout.

use rankfold_graph::ops::{Arithmetic, Binary, BinaryScalar, Dropout, Mean};

use super::{Call, Mode, OpResult};

pub(super) fn binary(op: &Binary, call: &Call<'_>) -> OpResult {
    let (a, b) = (call.input(0)?, call.input(1)?);
    Ok(match (call.reuse, op.arithmetic) {
        (Some(0), arithmetic) => {
            let mut own = a.shallow_clone();
            match arithmetic {
                Arithmetic::Add => own.f_add_(b),
                Arithmetic::Sub => own.f_sub_(b),
                Arithmetic::Mul => own.f_mul_(b),
                Arithmetic::Div => own.f_div_(b),
            }
        }
        (Some(1), Arithmetic::Add) => b.shallow_clone().f_add_(a),
        (Some(1), Arithmetic::Mul) => b.shallow_clone().f_mul_(a),
        (_, Arithmetic::Add) => a.f_add(b),
        (_, Arithmetic::Sub) => a.f_sub(b),
        (_, Arithmetic::Mul) => a.f_mul(b),
        (_, Arithmetic::Div) => a.f_div(b),
    }?)
}

pub(super) fn binary_scalar(op: &BinaryScalar, call: &Call<'_>) -> OpResult {
    let (input, scalar) = (call.input(0)?, op.scalar);
    if !op.reversed
        && let Some(mut own) = call.reusable()
        && own.f_kind()? != tch::Kind::Int64
    {
        return Ok(match op.arithmetic {
            Arithmetic::Add => own.f_add_scalar_(scalar),
            Arithmetic::Sub => own.f_sub_scalar_(scalar),
            Arithmetic::Mul => own.f_mul_scalar_(scalar),
            Arithmetic::Div => own.f_div_scalar_(scalar),
        }?);
    }
    Ok(match (op.arithmetic, op.reversed) {
        (Arithmetic::Add, _) => input.f_add_scalar(scalar),
        (Arithmetic::Mul, _) => input.f_mul_scalar(scalar),
        (Arithmetic::Sub, false) => input.f_sub_scalar(scalar),
        (Arithmetic::Sub, true) => input.f_neg()?.f_add_scalar(scalar),
        (Arithmetic::Div, false) => input.f_div_scalar(scalar),
        (Arithmetic::Div, true) => input.f_reciprocal()?.f_mul_scalar(scalar),
    }?)
}

pub(super) fn mean(op: &Mean, call: &Call<'_>) -> OpResult {
    Ok(call.input(0)?.f_mean_dim(&op.axes[..], op.keep, None)?)
}

pub(super) fn dropout(op: &Dropout, call: &Call<'_>) -> OpResult {
    let input = call.input(0)?;
    match call.mode {
        Mode::Inference | Mode::Statistics { .. } => Ok(input.shallow_clone()),
        Mode::Training | Mode::FrozenStatistics => Ok(input.f_dropout(op.p, true)?),
    }
}
