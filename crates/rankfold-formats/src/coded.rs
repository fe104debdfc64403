//! Coded weights as the tensors of bytes that a file holds, and back.
//!
//! A coded weight is one tensor of bytes under its own name: first its table (scales or values), then its
//! codes. What the bytes mean is in the file's description, weight by weight.

use std::collections::BTreeMap;

use bytes::Bytes;
use rankfold_graph::{
    Book, Code, CodeError, DType, Int8, Tensor, TensorError, WeightName, Weights,
};
use serde::{Deserialize, Serialize};

use crate::weights::StateDict;

/// How the bytes of a weight are to be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub(crate) enum Coding {
    /// A scale for every slice along `axis`, and a signed byte for every number.
    Int8 {
        /// The weight's shape.
        shape: Vec<usize>,
        /// The axis.
        axis: usize,
        /// The type of the scales.
        scales: DType,
    },
    /// So many values of type f32, and packed indices into them.
    Book {
        /// The weight's shape.
        shape: Vec<usize>,
        /// Values in the book.
        values: usize,
    },
}

/// The codings of a file's coded weights.
pub(crate) type Codings = BTreeMap<String, Coding>;

/// What is wrong with a coded weight in a file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CodedFault {
    /// A tensor that the description speaks of and the file has not.
    #[error("weight `{name}` is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// Bytes that make no code.
    #[error("weight `{name}`: {source}")]
    Bytes {
        /// The weight.
        name: String,
        /// What does not fit.
        source: CodeError,
    },
}

/// The tensors that a file holds for these weights, and how those of coded ones are to be read.
pub(crate) fn stored(weights: &Weights) -> Result<(StateDict, Codings), TensorError> {
    let mut codings = Codings::new();
    let mut tensors = Vec::with_capacity(weights.len());
    for (name, tensor) in weights.iter() {
        let held = match tensor.code() {
            None => tensor.clone(),
            Some(code) => {
                let (coding, bytes) = bytes_of(code);
                codings.insert(name.to_string(), coding);
                Tensor::new(DType::U8, vec![bytes.len()], bytes.into())?
            }
        };
        tensors.push((name.to_string(), held));
    }
    Ok((tensors.into_iter().collect(), codings))
}

fn bytes_of(code: &Code) -> (Coding, Vec<u8>) {
    let shape = code.shape().to_vec();
    let (coding, table, codes) = match code {
        Code::Int8(code) => {
            let (axis, scales) = (code.axis(), code.scales().dtype());
            let coding = Coding::Int8 {
                shape,
                axis,
                scales,
            };
            (coding, code.scales(), code.codes())
        }
        Code::Book(code) => {
            let values = code.values().len();
            (
                Coding::Book { shape, values },
                code.values(),
                code.indices(),
            )
        }
    };
    (coding, [&table.bytes()[..], codes.bytes()].concat())
}

/// The weights that a file's tensors stand for.
pub(crate) fn weights(tensors: &StateDict, codings: Codings) -> Result<Weights, CodedFault> {
    let plain = tensors.iter();
    let mut weights: Weights = plain
        .map(|(name, tensor)| (WeightName::from(name), tensor.clone()))
        .collect();
    for (name, coding) in codings {
        let Some(tensor) = weights.get(&name) else {
            return Err(CodedFault::Missing { name });
        };
        match decoded(coding, tensor) {
            Ok(tensor) => weights.insert(name, tensor),
            Err(source) => return Err(CodedFault::Bytes { name, source }),
        };
    }
    Ok(weights)
}

fn decoded(coding: Coding, tensor: &Tensor) -> Result<Tensor, CodeError> {
    if tensor.dtype() != DType::U8 {
        return Err(CodeError::Type {
            part: "bytes",
            expected: DType::U8,
            got: tensor.dtype(),
        });
    }
    let code = match coding {
        Coding::Int8 {
            shape,
            axis,
            scales,
        } => {
            let channels = shape.get(axis).copied();
            let channels = channels.ok_or_else(|| CodeError::Axis {
                axis,
                shape: shape.clone(),
            })?;
            let (scales, codes) = split(tensor.bytes(), scales, channels)?;
            Code::Int8(Int8::new(
                Tensor::new(DType::I8, shape, codes)?,
                scales,
                axis,
            )?)
        }
        Coding::Book { shape, values } => {
            let (values, indices) = split(tensor.bytes(), DType::F32, values)?;
            let indices = Tensor::new(DType::U8, vec![indices.len()], indices)?;
            Code::Book(Book::new(shape, indices, values)?)
        }
    };
    Ok(Tensor::coded(code)?)
}

/// The table at the beginning of `bytes`, and what follows.
fn split(bytes: &Bytes, dtype: DType, count: usize) -> Result<(Tensor, Bytes), TensorError> {
    let end = count.saturating_mul(dtype.size()).min(bytes.len());
    let table = Tensor::new(dtype, vec![count], bytes.slice(..end))?;
    Ok((table, bytes.slice(end..)))
}
