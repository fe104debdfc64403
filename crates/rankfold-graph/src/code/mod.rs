//! Weights in fewer bits than floats take: whole numbers with a scale for every channel, and code books.

mod book;
mod int8;

use std::fmt;

pub use self::book::Book;
pub use self::int8::Int8;
use crate::tensor::{DType, Tensor, TensorError};

/// Why parts make no code.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CodeError {
    /// A part is of another type than it should be.
    #[error("expected {part} of type {expected}, found {got}")]
    Type {
        /// Which part.
        part: &'static str,
        /// The type that it should have.
        expected: DType,
        /// The type that it has.
        got: DType,
    },
    /// The scales are not one for every channel.
    #[error("expected {expected} scales, one for every channel, found shape {got:?}")]
    Scales {
        /// Channels.
        expected: usize,
        /// Shape of the scales.
        got: Vec<usize>,
    },
    /// An axis beyond the tensor's dimensions.
    #[error("axis {axis} is out of range for shape {shape:?}")]
    Axis {
        /// The axis.
        axis: usize,
        /// Shape of the tensor.
        shape: Vec<usize>,
    },
    /// A scale that nothing can be divided by.
    #[error("scale {place} is {got}: expected a finite number above 0")]
    Scale {
        /// The channel.
        place: usize,
        /// The scale.
        got: f32,
    },
    /// A book with too few or too many values.
    #[error("expected a book of 1 to {} values, found shape {got:?}", Book::MOST)]
    Values {
        /// Shape of the book.
        got: Vec<usize>,
    },
    /// A value of a book that is no number.
    #[error("value {place} of the book is {got}: expected a finite number")]
    Value {
        /// Its place.
        place: usize,
        /// The value.
        got: f32,
    },
    /// The indices take another number of bytes.
    #[error("{count} indices of {bits} bits take {expected} bytes, found shape {got:?}")]
    Length {
        /// Indices.
        count: usize,
        /// Bits of each.
        bits: u32,
        /// Bytes that they take.
        expected: usize,
        /// Shape of the bytes.
        got: Vec<usize>,
    },
    /// An index beyond the book.
    #[error("index {index} at place {place} is beyond the book's {values} values")]
    Index {
        /// Where it stands.
        place: usize,
        /// The index.
        index: usize,
        /// Values in the book.
        values: usize,
    },
    /// Bytes that make no tensor.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// The numbers of a tensor, coded.
#[derive(Debug, Clone, PartialEq)]
pub enum Code {
    /// Signed 8-bit whole numbers, with a scale for every channel.
    Int8(Int8),
    /// Indices into a short list of values.
    Book(Book),
}

impl Code {
    /// Shape of the tensor.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Int8(code) => code.codes().shape(),
            Self::Book(code) => code.shape(),
        }
    }

    /// Bytes that the parts take together.
    pub fn stored_bytes(&self) -> usize {
        let [codes, table] = match self {
            Self::Int8(code) => [code.codes(), code.scales()],
            Self::Book(code) => [code.indices(), code.values()],
        };
        codes.bytes().len() + table.bytes().len()
    }

    /// The numbers as floats.
    pub(crate) fn decode(&self) -> Result<Vec<f32>, TensorError> {
        match self {
            Self::Int8(code) => code.decode(),
            Self::Book(code) => code.decode(),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int8(_) => write!(f, "int8"),
            Self::Book(code) => write!(f, "book of {}", code.values().len()),
        }
    }
}

fn expect_type(part: &'static str, tensor: &Tensor, expected: DType) -> Result<(), CodeError> {
    match tensor.dtype() {
        got if got == expected => Ok(()),
        got => Err(CodeError::Type {
            part,
            expected,
            got,
        }),
    }
}
