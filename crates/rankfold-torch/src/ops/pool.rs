//! Pooling over one or two spatial dimensions.

use rankfold_graph::ops::{AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool};
use tch::{Device, Kind, TchError, Tensor};

use super::max_pool_kernel::Windows;
use super::{Call, Fault, OpResult, is_channels_last, pad_trailing, sizes, symmetric};

const DIMENSIONS: Fault = Fault::Unsupported("pooling takes one or two spatial dimensions");

/// libtorch pads by at most half a window.
fn within_half(padding: &[i64], kernel: &[usize]) -> bool {
    padding
        .iter()
        .zip(kernel)
        .all(|(&pad, &kernel)| pad <= kernel as i64 / 2)
}

pub(super) fn max_pool(op: &MaxPool, call: &Call<'_>) -> OpResult {
    let input = call.input(0)?;
    if let Some(output) = in_one_pass(op, input)? {
        return Ok(output);
    }
    let direct = symmetric(&op.padding).filter(|padding| within_half(padding, &op.kernel));
    if let Some(padding) = direct {
        return max(input, op, padding, op.ceil);
    }
    let frame = frame(input, &extents(op), &op.stride, &op.padding, op.ceil)?;
    max(
        &pad_trailing(input, &frame, f64::NEG_INFINITY)?,
        op,
        vec![0; frame.len()],
        false,
    )
}

/// Rows and columns that a window reaches over.
fn extents(op: &MaxPool) -> Vec<usize> {
    let sides = op.kernel.iter().zip(&op.dilation);
    sides.map(|(k, d)| d * (k - 1) + 1).collect()
}

/// The result by a kernel of our own; none where the kernel does not apply or gradients are wanted.
fn in_one_pass(op: &MaxPool, input: &Tensor) -> Result<Option<Tensor>, Fault> {
    let plain = input.device() == Device::Cpu && input.f_kind()? == Kind::Float;
    let size = input.size();
    let (&[images, channels, rows, columns], true) = (&size[..], plain && input.numel() > 0) else {
        return Ok(None);
    };
    let pair = |values: &[usize]| <[usize; 2]>::try_from(values).ok();
    let (Some(kernel), Some(stride), Some(dilation)) =
        (pair(&op.kernel), pair(&op.stride), pair(&op.dilation))
    else {
        return Ok(None);
    };
    if input.requires_grad() || !is_channels_last(&size, &input.stride()) {
        return Ok(None);
    }
    let extents = extents(op);
    let frame = frame(input, &extents, &op.stride, &op.padding, op.ceil)?;
    let windows = |side: usize| {
        let framed = size[side + 2] + frame[side][0] + frame[side][1];
        (framed - extents[side] as i64) as usize / stride[side] + 1
    };
    let outputs = [windows(0), windows(1)];
    let shape = [images, outputs[0] as i64, outputs[1] as i64, channels];
    let output = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
    let sides = Windows {
        channels: channels as usize,
        size: [rows as usize, columns as usize],
        outputs,
        kernel,
        stride,
        dilation,
        before: [frame[0][0] as usize, frame[1][0] as usize],
    };
    // SAFETY: both tensors are dense f32 on the CPU, the output was made here and nobody else sees it,
    // and the input is not written to meanwhile.
    let (from, to) = unsafe {
        (
            std::slice::from_raw_parts(input.data_ptr().cast::<f32>(), input.numel()),
            std::slice::from_raw_parts_mut(output.data_ptr().cast::<f32>(), output.numel()),
        )
    };
    sides.run(from, to);
    Ok(Some(output.f_permute([0, 3, 1, 2])?))
}

fn max(input: &Tensor, op: &MaxPool, padding: Vec<i64>, ceil: bool) -> OpResult {
    let (kernel, stride, dilation) = (sizes(&op.kernel), sizes(&op.stride), sizes(&op.dilation));
    Ok(match kernel.len() {
        1 => input.f_max_pool1d(kernel, stride, padding, dilation, ceil)?,
        2 => input.f_max_pool2d(kernel, stride, padding, dilation, ceil)?,
        _ => return Err(DIMENSIONS),
    })
}

/// Padding after which windows without padding of their own, and none over the edge, are those asked for.
fn frame(
    input: &Tensor,
    extents: &[usize],
    stride: &[usize],
    padding: &[[usize; 2]],
    ceil: bool,
) -> Result<Vec<[i64; 2]>, Fault> {
    let shape = input.size();
    let spatial = shape
        .len()
        .checked_sub(extents.len())
        .map(|skip| &shape[skip..]);
    let spatial = spatial.ok_or(Fault::Unsupported("the input has too few dimensions"))?;
    (0..extents.len())
        .map(|i| {
            let (size, extent, stride) = (spatial[i], extents[i] as i64, stride[i] as i64);
            let [before, after] = padding[i].map(|n| n as i64);
            let free = size + before + after - extent;
            if free < 0 {
                return Err(Fault::Unsupported("the window is larger than its input"));
            }
            let mut windows = free / stride + 1;
            if ceil && free % stride != 0 && windows * stride < size + before {
                windows += 1;
            }
            Ok([before, (windows - 1) * stride + extent - size - before])
        })
        .collect()
}

pub(super) fn avg_pool(op: &AvgPool, call: &Call<'_>) -> OpResult {
    let input = call.input(0)?;
    let (kernel, stride) = (sizes(&op.kernel), sizes(&op.stride));
    let direct = symmetric(&op.padding).filter(|padding| within_half(padding, &op.kernel));
    if let Some(padding) = direct {
        return Ok(match kernel.len() {
            1 => input.f_avg_pool1d(kernel, stride, padding, op.ceil, op.count_include_pad)?,
            2 => {
                input.f_avg_pool2d(kernel, stride, padding, op.ceil, op.count_include_pad, None)?
            }
            _ => return Err(DIMENSIONS),
        });
    }
    let frame = frame(input, &op.kernel, &op.stride, &op.padding, op.ceil)?;
    let mean = |framed: &Tensor| -> Result<Tensor, Fault> {
        let zero = vec![0i64; kernel.len()];
        Ok(match kernel.len() {
            1 => framed.f_avg_pool1d(&kernel[..], &stride[..], zero, false, true)?,
            2 => framed.f_avg_pool2d(&kernel[..], &stride[..], zero, false, true, None)?,
            _ => return Err(DIMENSIONS),
        })
    };
    let counted = share_counted(input, op, &frame)?;
    Ok(mean(&pad_trailing(input, &frame, 0.0)?)?.f_div(&mean(&counted)?)?)
}

/// One for every place of the framed input that counts in the mean, zero elsewhere.
fn share_counted(input: &Tensor, op: &AvgPool, frame: &[[i64; 2]]) -> Result<Tensor, TchError> {
    let shape = input.size();
    let mut ones = vec![1, 1];
    ones.extend_from_slice(&shape[shape.len() - frame.len()..]);
    let mut around = frame.to_vec();
    let ones = Tensor::f_ones(ones, (input.f_kind()?, input.device()))?;
    if !op.count_include_pad {
        return pad_trailing(&ones, &around, 0.0);
    }
    let padding: Vec<[i64; 2]> = op.padding.iter().map(|p| p.map(|n| n as i64)).collect();
    for (around, own) in around.iter_mut().zip(&padding) {
        *around = [around[0] - own[0], around[1] - own[1]];
    }
    pad_trailing(&pad_trailing(&ones, &padding, 1.0)?, &around, 0.0)
}

pub(super) fn adaptive_avg_pool(op: &AdaptiveAvgPool, call: &Call<'_>) -> OpResult {
    let (input, output) = (call.input(0)?, sizes(&op.output));
    Ok(match output.len() {
        1 => input.f_adaptive_avg_pool1d(output)?,
        2 => input.f_adaptive_avg_pool2d(output)?,
        _ => return Err(DIMENSIONS),
    })
}

pub(super) fn adaptive_max_pool(op: &AdaptiveMaxPool, call: &Call<'_>) -> OpResult {
    let (input, output) = (call.input(0)?, sizes(&op.output));
    Ok(match output.len() {
        1 => input.f_adaptive_max_pool1d(output)?.0,
        2 => input.f_adaptive_max_pool2d(output)?.0,
        _ => return Err(DIMENSIONS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_equals_libtorch_where_numbers_are_missing_too() {
        for channels in [1, 3, 16, 40] {
            let x = crate::tests::input(&[2, channels, 37, 50], 1);
            let _ = x.narrow(2, 5, 2).narrow(3, 7, 1).fill_(f64::NAN);
            for (kernel, stride, padding, dilation, ceil) in [
                (2, 2, 0, 1, false),
                (2, 2, 0, 1, true),
                (3, 2, 1, 1, false),
                (3, 1, 1, 1, true),
                (3, 2, 1, 2, true),
            ] {
                let op = MaxPool {
                    kernel: vec![kernel; 2],
                    stride: vec![stride; 2],
                    padding: vec![[padding; 2]; 2],
                    dilation: vec![dilation; 2],
                    ceil,
                };
                let expected = max(&x, &op, vec![padding as i64; 2], ceil).unwrap();
                let x = crate::executor::channels_last(&x).unwrap();
                let output = in_one_pass(&op, &x).unwrap().expect("the kernel applies");
                assert!(output.allclose(&expected, 0.0, 0.0, true), "{op:?}");
            }
        }
    }

    #[test]
    fn gradients_and_channels_apart_are_left_to_libtorch() {
        let op = MaxPool {
            kernel: vec![2; 2],
            stride: vec![2; 2],
            padding: vec![[0; 2]; 2],
            dilation: vec![1; 2],
            ceil: false,
        };
        let x = crate::tests::input(&[2, 8, 6, 6], 1);
        assert!(in_one_pass(&op, &x).unwrap().is_none());
        let x = crate::executor::channels_last(&x).unwrap();
        assert!(in_one_pass(&op, &x).unwrap().is_some());
        let learned = x.set_requires_grad(true);
        assert!(in_one_pass(&op, &learned).unwrap().is_none());
    }
}
