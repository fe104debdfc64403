//! One file an op (or a family of ops that share their arithmetic).

mod activation;
mod attention;
mod binary;
mod concat;
mod constant;
mod conv;
mod dropout;
mod embedding;
mod linear;
mod matmul;
mod mean;
mod norm;
mod opaque;
mod pad;
mod pool;
mod quantize;
mod reshape;
mod slice;
mod softmax;

pub use activation::Activation;
pub use attention::Attention;
pub use binary::{Arithmetic, Binary, BinaryScalar};
pub use concat::Concat;
pub use constant::Constant;
pub use conv::{Conv, ConvTranspose};
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use linear::Linear;
pub use matmul::MatMul;
pub use mean::Mean;
pub use norm::{BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm};
pub use opaque::Opaque;
pub use pad::Pad;
pub use pool::{AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool};
pub use quantize::Quantize;
pub use reshape::{Expand, Flatten, Permute, Reshape, Squeeze, Unsqueeze};
pub use slice::{Slice, Split};
pub use softmax::Softmax;

use crate::error::OpError;
use crate::shape::{Dim, Fact};
use crate::tensor::Tensor;
use crate::weights::Weights;

/// The `N` inputs of an op that takes exactly that many.
fn exactly<'f, const N: usize>(inputs: &[&'f Fact]) -> Result<[&'f Fact; N], OpError> {
    inputs.try_into().map_err(|_| OpError::InputCount {
        expected: N,
        got: inputs.len(),
    })
}

fn weight<'w>(weights: &'w Weights, name: &str) -> Result<&'w Tensor, OpError> {
    weights.get(name).ok_or_else(|| OpError::MissingWeight {
        name: name.to_owned(),
    })
}

/// Checks that the weight, where there is one, is a vector of `len` elements.
fn vector(weights: &Weights, name: Option<&str>, len: usize) -> Result<(), OpError> {
    let Some(name) = name else { return Ok(()) };
    let tensor = weight(weights, name)?;
    if tensor.shape() == [len] {
        return Ok(());
    }
    Err(OpError::WeightShape {
        name: name.to_owned(),
        expected: "a vector with an element for every channel",
        got: tensor.shape().to_vec(),
    })
}

/// The shape of `fact` where it has `rank` dimensions, none where the shape is open.
fn ranked(fact: &Fact, rank: usize) -> Result<Option<&[Dim]>, OpError> {
    match &fact.shape {
        None => Ok(None),
        Some(shape) if shape.len() == rank => Ok(Some(shape)),
        Some(_) => Err(OpError::Rank {
            expected: rank,
            got: fact.clone(),
        }),
    }
}

/// An axis that counts from the end where it is negative, as an index.
fn axis_index(axis: i64, rank: usize, input: &Fact) -> Result<usize, OpError> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| OpError::Axis {
            axis,
            input: input.clone(),
        })
}

fn elements(fact: &Fact) -> Option<u64> {
    fact.item_elements().map(|n| n as u64)
}
