//! The forms that a layer can take, and their ranks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a layer becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The layer as it is.
    Keep,
    /// Two linear layers (or 1×1 convolutions) by truncated SVD.
    Svd,
    /// D×D to R channels, then 1×1.
    Channel,
    /// D×1, then 1×D.
    Spatial,
    /// 1×1, D×D, 1×1.
    Tucker2,
    /// 1×1, depthwise D×D, 1×1.
    Cp3,
    /// 1×1, depthwise D×1, depthwise 1×D, 1×1.
    Cp4,
    /// D×D to R channels, then 1×1, as the paper's first layer: the two-way CP.
    Cp2,
}

impl Form {
    /// Every form, in the order in which they are listed.
    pub const ALL: [Self; 8] = [
        Self::Keep,
        Self::Svd,
        Self::Channel,
        Self::Spatial,
        Self::Tucker2,
        Self::Cp3,
        Self::Cp4,
        Self::Cp2,
    ];

    /// The name in plans and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Svd => "svd",
            Self::Channel => "channel",
            Self::Spatial => "spatial",
            Self::Tucker2 => "tucker2",
            Self::Cp3 => "cp3",
            Self::Cp4 => "cp4",
            Self::Cp2 => "cp2",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A form's name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no form; expected one of keep, svd, channel, spatial, tucker2, cp2, cp3, cp4")]
pub struct UnknownForm(String);

impl FromStr for Form {
    type Err = UnknownForm;

    fn from_str(name: &str) -> Result<Self, UnknownForm> {
        (Self::ALL.into_iter())
            .find(|form| form.name() == name)
            .ok_or_else(|| UnknownForm(name.to_owned()))
    }
}

/// The rank of a form: one number, or two for Tucker-2 (input side, output side).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a rank: a whole number, or two of them"
)]
pub enum Rank {
    /// One rank.
    One(usize),
    /// The rank of the input channels and that of the output channels.
    Two([usize; 2]),
}

impl Rank {
    /// The single rank, or the larger of the two.
    pub fn largest(self) -> usize {
        match self {
            Self::One(rank) => rank,
            Self::Two([a, b]) => a.max(b),
        }
    }

    /// Every part raised to a multiple of `step`, where that is within `max`.
    pub(crate) fn raised(self, step: usize, max: Self) -> Self {
        let raise = |part: usize, max: usize| {
            Some(part.next_multiple_of(step))
                .filter(|&raised| raised <= max)
                .unwrap_or(part)
        };
        match (self, max) {
            (Self::One(rank), Self::One(max)) => Self::One(raise(rank, max)),
            (Self::Two([a, b]), Self::Two([m, n])) => Self::Two([raise(a, m), raise(b, n)]),
            _ => self,
        }
    }

    /// True where every part is a multiple of `step`.
    pub(crate) fn is_multiple_of(self, step: usize) -> bool {
        match self {
            Self::One(rank) => rank.is_multiple_of(step),
            Self::Two(parts) => parts.iter().all(|part| part.is_multiple_of(step)),
        }
    }

    /// True where no part is above the corresponding part of `max`, and none is zero.
    pub(crate) fn is_within(self, max: Self) -> bool {
        match (self, max) {
            (Self::One(r), Self::One(m)) => (1..=m).contains(&r),
            (Self::Two([a, b]), Self::Two([m, n])) => (1..=m).contains(&a) && (1..=n).contains(&b),
            _ => false,
        }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(rank) => f.pad(&rank.to_string()),
            Self::Two([a, b]) => f.pad(&format!("{a}×{b}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_rank_has_its_bound() {
        let within = |rank, max| Rank::is_within(rank, max);
        assert!(within(Rank::One(3), Rank::One(3)));
        assert!(!within(Rank::One(0), Rank::One(3)));
        assert!(!within(Rank::One(4), Rank::One(3)));
        assert!(within(Rank::Two([2, 3]), Rank::Two([2, 3])));
        for outside in [[3, 3], [2, 4], [0, 3], [2, 0]] {
            assert!(
                !within(Rank::Two(outside), Rank::Two([2, 3])),
                "{outside:?}"
            );
        }
        assert!(!within(Rank::One(1), Rank::Two([2, 3])));
    }
}
