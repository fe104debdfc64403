//! Elementwise functions.

use rankfold_graph::ops::Activation;
use tch::{TchError, Tensor};

use super::{Call, OpResult};
use crate::convert::scalar_of;

pub(super) fn activation(op: &Activation, call: &Call<'_>) -> OpResult {
    let input = call.input(0)?;
    if let Some(mut own) = call.reusable()
        && let Some(result) = in_place(op, &mut own)
    {
        return Ok(result?);
    }
    Ok(match *op {
        Activation::Relu => input.f_relu(),
        Activation::Relu6 => input.f_clamp(0.0, 6.0),
        Activation::LeakyRelu { slope } => {
            let slope = Tensor::f_full([1], slope, (input.f_kind()?, input.device()))?;
            input.f_prelu(&slope)
        }
        Activation::Elu { alpha: 1.0 } => input.f_elu(),
        Activation::Elu { alpha } => {
            let below = input.f_clamp_max(0.0)?.f_expm1()?.f_mul_scalar(alpha)?;
            input.f_relu()?.f_add(&below)
        }
        Activation::Gelu { tanh } => input.f_gelu(if tanh { "tanh" } else { "none" }),
        Activation::Silu => input.f_silu(),
        Activation::Sigmoid => input.f_sigmoid(),
        Activation::Tanh => input.f_tanh(),
        Activation::HardSwish => input.f_hardswish(),
        Activation::HardSigmoid => input.f_hardsigmoid(),
        Activation::Mish => input.f_mish(),
        Activation::Softplus => input.f_softplus(),
        Activation::Clamp { min, max } => {
            let kind = input.f_kind()?;
            input.f_clamp(scalar_of(min, kind), scalar_of(max, kind))
        }
        Activation::Exp => input.f_exp(),
        Activation::Sqrt => input.f_sqrt(),
        Activation::Abs => input.f_abs(),
        Activation::Neg => input.f_neg(),
        Activation::Pow { exponent } => input.f_pow_tensor_scalar(exponent),
        Activation::Identity => Ok(input.shallow_clone()),
    }?)
}

/// The functions that networks use by the million, written over their input; none for the rest.
fn in_place(op: &Activation, own: &mut Tensor) -> Option<Result<Tensor, TchError>> {
    Some(match *op {
        Activation::Relu => own.f_relu_(),
        Activation::Relu6 => own.f_clamp_(0.0, 6.0),
        Activation::Clamp { min, max } => {
            let kind = own.kind();
            own.f_clamp_(scalar_of(min, kind), scalar_of(max, kind))
        }
        Activation::Silu => own.f_silu_(),
        Activation::Sigmoid => own.f_sigmoid_(),
        Activation::Tanh => own.f_tanh_(),
        Activation::HardSwish => own.f_hardswish_(),
        _ => return None,
    })
}
