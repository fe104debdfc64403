//! Every op of the graph as calls of libtorch, shared by inference and training.

mod activation;
mod arithmetic;
mod attention;
pub(crate) mod chain;
mod chain_kernel;
mod conv;
mod linear;
mod lrn;
mod lrn_kernel;
mod max_pool_kernel;
mod norm;
pub(crate) mod packed;
mod pool;
mod quantize;
mod shape;
mod team;

use rankfold_graph::Op;
use tch::{TchError, Tensor};

/// How ops behave that differ between training and use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// Running statistics, no dropout.
    Inference,
    /// Statistics of the batch, which update the running ones, and dropout.
    Training,
    /// Running statistics as they are, and dropout.
    FrozenStatistics,
    /// Statistics of the batch, with this share in the running ones, and no dropout.
    Statistics { momentum: f64 },
}

/// What a node's op is called with.
pub(crate) struct Call<'a> {
    /// The node's inputs.
    pub(crate) inputs: &'a [&'a Tensor],
    /// Its weights in the order of [`Op::weights`].
    pub(crate) weights: &'a [Tensor],
    /// Training or not.
    pub(crate) mode: Mode,
    /// The input that nobody needs afterwards and that the result may be written to.
    pub(crate) reuse: Option<usize>,
}

/// Why an op did not run.
#[derive(Debug)]
pub(crate) enum Fault {
    Torch(TchError),
    Unsupported(&'static str),
}

impl From<TchError> for Fault {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}

pub(crate) type OpResult = Result<Tensor, Fault>;

/// True where the channels of a pixel lie side by side and pixels follow each other without gaps.
fn is_channels_last(size: &[i64], stride: &[i64]) -> bool {
    let mut expected = size[1];
    let dense = (2..size.len()).rev().all(|dim| {
        let fits = size[dim] == 1 || stride[dim] == expected;
        expected *= size[dim];
        fits
    });
    dense && (size[1] == 1 || stride[1] == 1) && (size[0] == 1 || stride[0] == expected)
}

impl<'a> Call<'a> {
    fn input(&self, index: usize) -> Result<&'a Tensor, Fault> {
        self.inputs
            .get(index)
            .copied()
            .ok_or(Fault::Unsupported("an input is missing"))
    }

    fn weight(&self, index: usize) -> Result<&'a Tensor, Fault> {
        self.weights
            .get(index)
            .ok_or(Fault::Unsupported("a weight is missing"))
    }

    /// A second handle to the first input, where the result may be written to it.
    fn reusable(&self) -> Option<Tensor> {
        (self.reuse == Some(0)).then(|| self.inputs[0].shallow_clone())
    }
}

/// The outputs of a node's op. Weights come in the order in which the op names them.
pub(crate) fn run(op: &Op, call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let output = match op {
        Op::Conv(op) => conv::conv(op, call),
        Op::ConvTranspose(op) => conv::conv_transpose(op, call),
        Op::Linear(op) => linear::linear(op, call),
        Op::BatchNorm(op) => norm::batch_norm(op, call),
        Op::LayerNorm(op) => norm::layer_norm(op, call),
        Op::GroupNorm(op) => norm::group_norm(op, call),
        Op::LocalResponseNorm(op) => lrn::local_response_norm(op, call),
        Op::Activation(op) => activation::activation(op, call),
        Op::MaxPool(op) => pool::max_pool(op, call),
        Op::AvgPool(op) => pool::avg_pool(op, call),
        Op::AdaptiveAvgPool(op) => pool::adaptive_avg_pool(op, call),
        Op::AdaptiveMaxPool(op) => pool::adaptive_max_pool(op, call),
        Op::Binary(op) => arithmetic::binary(op, call),
        Op::BinaryScalar(op) => arithmetic::binary_scalar(op, call),
        Op::Mean(op) => arithmetic::mean(op, call),
        Op::Dropout(op) => arithmetic::dropout(op, call),
        Op::Concat(op) => shape::concat(op, call),
        Op::Split(op) => return shape::split(op, call),
        Op::Slice(op) => shape::slice(op, call),
        Op::Flatten(op) => shape::flatten(op, call),
        Op::Reshape(op) => shape::reshape(op, call),
        Op::Permute(op) => shape::permute(op, call),
        Op::Squeeze(op) => shape::squeeze(op, call),
        Op::Unsqueeze(op) => shape::unsqueeze(op, call),
        Op::Expand(op) => shape::expand(op, call),
        Op::Pad(op) => shape::pad(op, call),
        Op::Quantize(op) => quantize::quantize(op, call),
        Op::Softmax(op) => attention::softmax(op, call),
        Op::MatMul(op) => attention::matmul(op, call),
        Op::Attention(op) => attention::attention(op, call),
        Op::Embedding(op) => linear::embedding(op, call),
        Op::Constant(op) => linear::constant(op, call),
        Op::Opaque(_) => Err(Fault::Unsupported("the op is not known")),
    };
    Ok(vec![output?])
}

/// How an op's outputs relate to the memory of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The outputs are the node's own.
    Fresh,
    /// The outputs may be views of the first input.
    View,
    /// The output is a weight.
    Weight,
}

/// Where an op's outputs live.
pub(crate) fn memory(op: &Op) -> Memory {
    match op {
        Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Linear(_)
        | Op::BatchNorm(_)
        | Op::LayerNorm(_)
        | Op::GroupNorm(_)
        | Op::LocalResponseNorm(_)
        | Op::MaxPool(_)
        | Op::AvgPool(_)
        | Op::Binary(_)
        | Op::BinaryScalar(_)
        | Op::Mean(_)
        | Op::Concat(_)
        | Op::Softmax(_)
        | Op::MatMul(_)
        | Op::Attention(_)
        | Op::Embedding(_)
        | Op::Quantize(_)
        | Op::Pad(_) => Memory::Fresh,
        Op::Activation(op) if *op == rankfold_graph::ops::Activation::Identity => Memory::View,
        Op::Activation(_) => Memory::Fresh,
        Op::AdaptiveAvgPool(_)
        | Op::AdaptiveMaxPool(_)
        | Op::Dropout(_)
        | Op::Split(_)
        | Op::Slice(_)
        | Op::Flatten(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Expand(_)
        | Op::Opaque(_) => Memory::View,
        Op::Constant(_) => Memory::Weight,
    }
}

pub(crate) fn sizes(values: &[usize]) -> Vec<i64> {
    crate::convert::sizes(values)
}

/// The padding where it is the same before and after in every dimension.
pub(crate) fn symmetric(padding: &[[usize; 2]]) -> Option<Vec<i64>> {
    padding
        .iter()
        .map(|&[before, after]| (before == after).then_some(before as i64))
        .collect()
}

/// `input` with `value` around its trailing dimensions; negative amounts cut off.
pub(crate) fn pad_trailing(
    input: &Tensor,
    padding: &[[i64; 2]],
    value: f64,
) -> Result<Tensor, TchError> {
    let amounts: Vec<i64> = padding.iter().rev().flatten().copied().collect();
    let value = crate::convert::scalar_of(value, input.f_kind()?);
    input.f_pad(amounts, "constant", value)
}
