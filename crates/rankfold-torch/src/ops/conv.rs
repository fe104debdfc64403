//! Convolutions of one to three spatial dimensions.

use rankfold_graph::ops::{Conv, ConvTranspose};
use tch::{Device, Kind, Tensor};

use super::{Call, Mode, OpResult, pad_trailing, sizes, symmetric};

pub(super) fn conv(op: &Conv, call: &Call<'_>) -> OpResult {
    let (input, kernel, bias) = (call.input(0)?, call.weight(0)?, call.weights.get(1));
    if learns_faster_as_product(op, call, input, kernel) {
        return product(input, kernel, bias);
    }
    if learns_slowly_in_bf16(op, call, input, kernel) {
        return in_f32(op, call);
    }
    let padded;
    let (input, padding) = match symmetric(&op.padding) {
        Some(padding) => (input, padding),
        None => {
            let amounts: Vec<[i64; 2]> = op
                .padding
                .iter()
                .map(|&[before, after]| [before as i64, after as i64])
                .collect();
            padded = pad_trailing(input, &amounts, 0.0)?;
            (&padded, vec![0; amounts.len()])
        }
    };
    let no_output_padding = vec![0i64; padding.len()];
    Ok(input.f_convolution(
        kernel,
        bias,
        sizes(&op.stride),
        padding,
        sizes(&op.dilation),
        false,
        no_output_padding,
        op.groups as i64,
    )?)
}

/// Channels from which on a product of matrices has the faster gradients in f32 too.
const MANY_CHANNELS: i64 = 48;

/// Whether a 1×1 convolution that gradients go through is better done as a product of matrices: on the
/// CPU, with the channels together (docs/performance.md has the times).
fn learns_faster_as_product(op: &Conv, call: &Call<'_>, input: &Tensor, kernel: &Tensor) -> bool {
    let learns = matches!(call.mode, Mode::Training | Mode::FrozenStatistics);
    let [outputs, inputs, 1, 1] = kernel.size()[..] else {
        return false;
    };
    let narrow = input.kind() == Kind::BFloat16;
    learns
        && input.device() == Device::Cpu
        && input.dim() == 4
        && op.groups == 1
        && op.stride.iter().all(|&by| by == 1)
        && op.padding.iter().all(|&by| by == [0, 0])
        && (narrow || outputs.min(inputs) >= MANY_CHANNELS)
        && input.stride()[1] == 1
}

/// Columns of a depthwise kernel up to which oneDNN has its gradient quickly in bf16, however many rows.
const QUICK_COLUMNS: i64 = 3;

/// Whether oneDNN has no quick gradient for this in bf16: depthwise convolutions that are strided or wide
/// (docs/performance.md has the times).
fn learns_slowly_in_bf16(op: &Conv, call: &Call<'_>, input: &Tensor, kernel: &Tensor) -> bool {
    let learns = matches!(call.mode, Mode::Training | Mode::FrozenStatistics);
    learns
        && input.device() == Device::Cpu
        && input.kind() == Kind::BFloat16
        && op.groups > 1
        && (op.stride.iter().any(|&by| by > 1) || is_wide(kernel))
}

/// Whether a kernel has one input channel for each output and many columns.
fn is_wide(kernel: &Tensor) -> bool {
    matches!(kernel.size()[..], [_, 1, _, columns] if columns > QUICK_COLUMNS)
}

/// The same computed in f32.
fn in_f32(op: &Conv, call: &Call<'_>) -> OpResult {
    let kind = call.input(0)?.kind();
    let wide = |tensor: &Tensor| tensor.f_to_kind(Kind::Float);
    let input = wide(call.input(0)?)?;
    let weights: Vec<Tensor> = call.weights.iter().map(wide).collect::<Result<_, _>>()?;
    let output = conv(
        op,
        &Call {
            inputs: &[&input],
            weights: &weights,
            ..*call
        },
    )?;
    Ok(output.f_to_kind(kind)?)
}

fn product(input: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> OpResult {
    let matrix = kernel.f_reshape(&kernel.size()[..2])?;
    let pixels = input.f_permute([0, 2, 3, 1])?;
    let output = pixels.f_linear(&matrix, bias)?;
    Ok(output.f_permute([0, 3, 1, 2])?)
}

pub(super) fn conv_transpose(op: &ConvTranspose, call: &Call<'_>) -> OpResult {
    let (input, kernel, bias) = (call.input(0)?, call.weight(0)?, call.weights.get(1));
    let even = symmetric(&op.padding);
    let run = |padding: Vec<i64>| -> Result<Tensor, tch::TchError> {
        input.f_convolution(
            kernel,
            bias,
            sizes(&op.stride),
            padding,
            sizes(&op.dilation),
            true,
            sizes(&op.output_padding),
            op.groups as i64,
        )
    };
    if let Some(padding) = even {
        return Ok(run(padding)?);
    }
    let cut: Vec<[i64; 2]> = op
        .padding
        .iter()
        .map(|&[before, after]| [-(before as i64), -(after as i64)])
        .collect();
    Ok(pad_trailing(&run(vec![0; cut.len()])?, &cut, 0.0)?)
}
