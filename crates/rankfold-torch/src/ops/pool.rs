//! Pooling over one or two spatial dimensions.

use rankfold_graph::ops::{AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool};
use tch::{TchError, Tensor};

use super::{Call, Fault, OpResult, pad_trailing, sizes, symmetric};

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
    let direct = symmetric(&op.padding).filter(|padding| within_half(padding, &op.kernel));
    if let Some(padding) = direct {
        return max(input, op, padding, op.ceil);
    }
    let extents: Vec<usize> = op
        .kernel
        .iter()
        .zip(&op.dilation)
        .map(|(k, d)| d * (k - 1) + 1)
        .collect();
    let frame = frame(input, &extents, &op.stride, &op.padding, op.ceil)?;
    max(
        &pad_trailing(input, &frame, f64::NEG_INFINITY)?,
        op,
        vec![0; frame.len()],
        false,
    )
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
