//! Shapes whose batch (and other) dimensions may be symbols.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::tensor::DType;

/// One dimension of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// A known size.
    Fixed(usize),
    /// A size known when the model runs, with a name: two dimensions of one name are equal.
    Symbol(Arc<str>),
    /// A size known when the model runs.
    Unknown(()),
}

impl Dim {
    /// The name that the batch dimension has by custom.
    pub const BATCH: &'static str = "N";

    /// A dimension of unknown size.
    pub const UNKNOWN: Self = Self::Unknown(());

    /// The batch dimension.
    pub fn batch() -> Self {
        Self::Symbol(Self::BATCH.into())
    }

    /// The size, where it is known.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(*n),
            Self::Symbol(_) | Self::Unknown(()) => None,
        }
    }

    /// The dimension that `f` makes of a known size; unknown for the rest.
    pub fn map(&self, f: impl FnOnce(usize) -> usize) -> Self {
        self.fixed().map_or(Self::UNKNOWN, |n| Self::Fixed(f(n)))
    }

    /// False only where both sizes are known and differ.
    pub fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fixed(a), Self::Fixed(b)) => a == b,
            _ => true,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown(()) => f.write_str("?"),
        }
    }
}

/// What is known of a value before the model runs: its type and, mostly, its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Element type.
    pub dtype: DType,
    /// Dimensions; none where not even their number is known.
    pub shape: Option<Vec<Dim>>,
}

impl Fact {
    /// A value of known type and shape.
    pub fn new(dtype: DType, shape: impl IntoIterator<Item = Dim>) -> Self {
        Self {
            dtype,
            shape: Some(shape.into_iter().collect()),
        }
    }

    /// An f32 value: a batch of items of the given shape.
    pub fn batch_of(item: &[usize]) -> Self {
        let dims = item.iter().map(|&n| Dim::Fixed(n));
        Self::new(DType::F32, std::iter::once(Dim::batch()).chain(dims))
    }

    /// A value of known type and unknown shape.
    pub fn unshaped(dtype: DType) -> Self {
        Self { dtype, shape: None }
    }

    /// The same type with another shape.
    pub(crate) fn with_shape(&self, shape: Vec<Dim>) -> Self {
        Self {
            dtype: self.dtype,
            shape: Some(shape),
        }
    }

    /// The number of elements of one item, the first dimension set apart; none where unknown.
    pub fn item_elements(&self) -> Option<usize> {
        self.shape
            .as_ref()?
            .iter()
            .skip(1)
            .try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dtype)?;
        match &self.shape {
            None => f.write_str("[…]"),
            Some(shape) => {
                f.write_str("[")?;
                for (i, dim) in shape.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{dim}")?;
                }
                f.write_str("]")
            }
        }
    }
}
