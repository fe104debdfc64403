//! How long models take, side by side in one process.

use rankfold_compress::{Repeat, Timing, by_turns};
use tch::{Kind, Tensor};

use crate::convert::kind_of;
use crate::device::Device;
use crate::error::{At, Result, TorchError};
use crate::executor::Executor;

/// Measures models on the same inputs, by turns.
pub fn bench(models: &[&Executor], inputs: &[Tensor], repeat: Repeat) -> Result<Vec<Timing>> {
    by_turns(models.len(), repeat, |model| {
        let model = models[model];
        std::hint::black_box(model.run(inputs)?);
        if let Device::Cuda(number) = model.options().device {
            tch::Cuda::synchronize(number as i64);
        }
        Ok(())
    })
}

/// Inputs for a model: mean zero, variance one, without structure, the same for the same seed; whole
/// numbers are zero.
///
/// Open dimensions other than the first, the batch, are taken to be one.
pub fn random_inputs(model: &Executor, batch: usize, seed: i64) -> Result<Vec<Tensor>> {
    let step = "drawing inputs";
    let mut inputs = Vec::new();
    for input in model.inputs() {
        let Some(shape) = &input.fact.shape else {
            return Err(TorchError::Empty {
                what: "run: the model's input has no known shape",
            });
        };
        let mut size: Vec<i64> = shape
            .iter()
            .map(|d| d.fixed().unwrap_or(1) as i64)
            .collect();
        if let (Some(first), Some(dim)) = (size.first_mut(), shape.first())
            && dim.fixed().is_none()
        {
            *first = batch as i64;
        }
        let kind = kind_of(input.fact.dtype);
        let device = model.options().device.into();
        inputs.push(if input.fact.dtype.is_float() {
            let count: i64 = size.iter().product();
            let places = Tensor::f_arange(count, (Kind::Double, tch::Device::Cpu)).at(step)?;
            let angles = places
                .f_mul_scalar(12.9898)
                .at(step)?
                .f_add_scalar(seed)
                .at(step)?;
            let drawn = angles
                .f_sin()
                .at(step)?
                .f_mul_scalar(std::f64::consts::SQRT_2)
                .at(step)?;
            let drawn = drawn.f_reshape(&size[..]).at(step)?;
            drawn.f_to_kind(kind).at(step)?.f_to(device).at(step)?
        } else {
            Tensor::f_zeros(&size[..], (kind, device)).at(step)?
        });
    }
    Ok(inputs)
}
