//! The one error type of the crate.

use std::fmt;

/// What can be wrong with the input of a decomposition.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecomposeError {
    /// An element of an input array is NaN or infinite.
    #[error("expected finite values in the {array}, found {value} at index {position}")]
    NonFinite {
        /// Which input array.
        array: &'static str,
        /// The first offending index, in the array's own axes.
        position: Position,
        /// The value found there.
        value: f64,
    },

    /// An input array has no elements.
    #[error("expected a non-empty {array}, found shape {shape:?}")]
    Empty {
        /// Which input array.
        array: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },

    /// An input array does not have the shape that the others ask for.
    #[error("expected the {array} to have shape {expected:?}, found {got:?}")]
    ShapeMismatch {
        /// Which input array.
        array: &'static str,
        /// The shape it should have.
        expected: Vec<usize>,
        /// The shape it has.
        got: Vec<usize>,
    },

    /// A rank of zero was asked for.
    #[error("expected a rank of at least 1, found 0")]
    ZeroRank,

    /// A rank above the largest that the form can have.
    #[error("expected a {form} rank of at most {max}, found {rank}; full rank is already exact")]
    RankTooLarge {
        /// Which decomposition.
        form: &'static str,
        /// The rank asked for.
        rank: usize,
        /// The largest rank possible for this shape.
        max: usize,
    },

    /// A rank that does not divide evenly between the groups of a convolution.
    #[error("expected a rank divisible by the {groups} groups of the convolution, found {rank}")]
    RankNotDivisible {
        /// The rank asked for.
        rank: usize,
        /// The number of groups.
        groups: usize,
    },

    /// A number of groups that does not divide the channels of a convolution.
    #[error("expected {groups} groups to divide the {channels} output channels")]
    GroupsNotDivisible {
        /// The number of groups.
        groups: usize,
        /// The number of output channels.
        channels: usize,
    },

    /// A depthwise convolution, in which there is no rank to reduce.
    #[error(
        "expected a convolution that mixes input channels, found a depthwise one with {groups} \
         groups: each filter is a single {height}×{width} slice, so no {form} factorisation of it \
         has fewer parameters; keep the layer"
    )]
    Depthwise {
        /// Which decomposition was asked for.
        form: &'static str,
        /// The number of groups.
        groups: usize,
        /// Kernel height.
        height: usize,
        /// Kernel width.
        width: usize,
    },

    /// An option outside its range.
    #[error("expected {option} to be {expected}, found {got}")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: f64,
    },

    /// A dense factorisation that did not converge.
    #[error("{routine} of a {rows}×{cols} matrix did not converge")]
    NoConvergence {
        /// The factorisation.
        routine: &'static str,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },

    /// The caller cancelled the run.
    #[error("cancelled by the caller")]
    Cancelled,
}

/// The index of an element, shown as `[i, j, …]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(pub Vec<usize>);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Short for a result with this crate's error.
pub type Result<T> = std::result::Result<T, DecomposeError>;
