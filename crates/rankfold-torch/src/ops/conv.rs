//! Convolutions of one to three spatial dimensions.

use rankfold_graph::ops::{Conv, ConvTranspose};
use tch::Tensor;

use super::{Call, OpResult, pad_trailing, sizes, symmetric};

pub(super) fn conv(op: &Conv, call: &Call<'_>) -> OpResult {
    let (input, kernel, bias) = (call.input(0)?, call.weight(0)?, call.weights.get(1));
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
