//! Local response normalisation: `x / (k + alpha / size · Σ x²)^beta` over neighbouring channels.

use std::num::NonZeroUsize;

use rankfold_graph::ops::LocalResponseNorm;
use tch::{Device, Kind, TchError, Tensor};

use super::lrn_kernel::{Channels, Lrn, Power};
use super::{Call, OpResult, is_channels_last};

pub(super) fn local_response_norm(op: &LocalResponseNorm, call: &Call<'_>) -> OpResult {
    let input = call.input(0)?;
    Ok(match in_one_pass(op, input)? {
        Some(output) => output,
        None => by_shifts(op, input)?,
    })
}

/// The neighbours that count, before and after.
fn reach(op: &LocalResponseNorm) -> (usize, usize) {
    (op.size / 2, op.size.saturating_sub(1) / 2)
}

/// The result by a kernel of our own; none where the kernel does not apply or gradients are wanted.
fn in_one_pass(op: &LocalResponseNorm, input: &Tensor) -> Result<Option<Tensor>, TchError> {
    let Some(power) = Power::of(op.beta) else {
        return Ok(None);
    };
    let plain = input.device() == Device::Cpu && input.f_kind()? == Kind::Float;
    if !plain || input.requires_grad() || input.dim() < 3 || input.numel() == 0 {
        return Ok(None);
    }
    let size = input.size();
    let channels = size[1] as usize;
    let pixels: i64 = size[2..].iter().product();
    let layout = if input.is_contiguous() {
        Channels::Apart
    } else if is_channels_last(&size, &input.stride()) {
        Channels::Together
    } else {
        return Ok(None);
    };
    let output = input.f_empty_like()?;
    if output.stride() != input.stride() {
        return Ok(None);
    }
    let count = input.numel();
    let threads = NonZeroUsize::new(crate::device::threads()).unwrap_or(NonZeroUsize::MIN);
    let (before, after) = reach(op);
    let lrn = Lrn {
        before,
        after,
        factor: (op.alpha / op.size as f64) as f32,
        k: op.k as f32,
        power,
    };
    // SAFETY: both tensors are dense f32 on the CPU with `count` elements in an unbroken range, the
    // output was made here and nobody else sees it, and the input is not written to meanwhile.
    let (from, to) = unsafe {
        (
            std::slice::from_raw_parts(input.data_ptr().cast::<f32>(), count),
            std::slice::from_raw_parts_mut(output.data_ptr().cast::<f32>(), count),
        )
    };
    lrn.run(from, to, layout, channels, pixels as usize, threads);
    Ok(Some(output))
}

/// The windowed sum as a sum of shifted squares, which gradients can follow, on any device.
fn by_shifts(op: &LocalResponseNorm, input: &Tensor) -> Result<Tensor, TchError> {
    let channels = input.size().get(1).copied().unwrap_or(1);
    let (before, after) = reach(op);
    let squares = input.f_square()?.f_mul_scalar(op.alpha / op.size as f64)?;
    let sum = squares.f_add_scalar(op.k)?;
    for shift in (-(before as i64)..=after as i64).filter(|&s| s != 0 && s.abs() < channels) {
        let length = channels - shift.abs();
        let (from, to) = (shift.max(0), (-shift).max(0));
        let part = squares.f_narrow(1, from, length)?;
        let _ = sum.f_narrow(1, to, length)?.f_add_(&part)?;
    }
    input.f_mul(&sum.f_pow_tensor_scalar(-op.beta)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_applies_to_both_layouts_and_equals_the_sum_of_shifts() {
        for (channels, side) in [(1, 1), (3, 5), (64, 30), (17, 40)] {
            let x = crate::tests::input(&[3, channels, side, side], 1) * 3.0;
            for beta in [0.5, 0.75, 1.0] {
                let op = LocalResponseNorm {
                    size: 5,
                    alpha: 0.3,
                    beta,
                    k: 2.0,
                };
                let expected = by_shifts(&op, &x).unwrap();
                for layout in [
                    x.shallow_clone(),
                    crate::executor::channels_last(&x).unwrap(),
                ] {
                    let output = in_one_pass(&op, &layout)
                        .unwrap()
                        .expect("the kernel applies");
                    assert_eq!(output.stride(), layout.stride());
                    assert!(crate::tests::distance(&output, &expected) < 1e-6);
                }
            }
        }
    }

    #[test]
    fn gradients_and_gaps_are_left_to_libtorch() {
        let op = LocalResponseNorm {
            size: 5,
            alpha: 0.3,
            beta: 0.75,
            k: 2.0,
        };
        let x = crate::tests::input(&[2, 8, 6, 6], 1);
        assert!(in_one_pass(&op, &x.narrow(3, 0, 4)).unwrap().is_none());
        assert!(in_one_pass(&op, &x.narrow(1, 0, 4)).unwrap().is_none());
        assert!(
            in_one_pass(&op, &x.copy().set_requires_grad(true))
                .unwrap()
                .is_none()
        );
        let other = LocalResponseNorm { beta: 0.6, ..op };
        assert!(in_one_pass(&other, &x).unwrap().is_none());
    }
}
