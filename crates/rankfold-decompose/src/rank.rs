//! How far to truncate: checked ranks and tolerances.

use std::num::NonZeroUsize;

use crate::error::{DecomposeError, Result};

/// A number of components, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(NonZeroUsize);

impl Rank {
    /// The rank `value`, or [`DecomposeError::ZeroRank`].
    pub fn new(value: usize) -> Result<Self> {
        NonZeroUsize::new(value)
            .map(Self)
            .ok_or(DecomposeError::ZeroRank)
    }

    /// The number of components.
    pub fn get(self) -> usize {
        self.0.get()
    }

    /// The number of components, or [`DecomposeError::RankTooLarge`] where it is above `max`.
    pub(crate) fn at_most(self, max: usize, form: &'static str) -> Result<usize> {
        if self.get() <= max {
            Ok(self.get())
        } else {
            Err(DecomposeError::RankTooLarge {
                form,
                rank: self.get(),
                max,
            })
        }
    }
}

/// A relative error to stay under, in [0, 1).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Tolerance(f64);

impl Tolerance {
    /// The tolerance `value`, or [`DecomposeError::InvalidOption`] outside [0, 1).
    pub fn new(value: f64) -> Result<Self> {
        if (0.0..1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(DecomposeError::InvalidOption {
                option: "the tolerance",
                expected: "at least 0 and below 1",
                got: value,
            })
        }
    }

    /// The relative error.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Where to cut a factorisation off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Truncation {
    /// At this many components.
    Rank(Rank),
    /// At the fewest components whose relative error is at most this.
    Tolerance(Tolerance),
}

impl Truncation {
    /// Truncation at `rank` components, or [`DecomposeError::ZeroRank`].
    pub fn rank(rank: usize) -> Result<Self> {
        Rank::new(rank).map(Self::Rank)
    }

    /// Truncation at relative error `tolerance`, which must be in [0, 1).
    pub fn tolerance(tolerance: f64) -> Result<Self> {
        Tolerance::new(tolerance).map(Self::Tolerance)
    }
}

impl From<Rank> for Truncation {
    fn from(rank: Rank) -> Self {
        Self::Rank(rank)
    }
}

impl From<Tolerance> for Truncation {
    fn from(tolerance: Tolerance) -> Self {
        Self::Tolerance(tolerance)
    }
}
