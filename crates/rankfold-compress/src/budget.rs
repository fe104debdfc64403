//! What a user asks for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a budget limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Learnable numbers of the whole network.
    Parameters,
    /// Multiply-accumulates of the whole network for one item.
    Macs,
    /// Bytes of the written weights.
    Bytes,
    /// Measured nanoseconds of a run of the whole network.
    Time,
}

impl Resource {
    /// So much of it in words.
    pub(crate) fn amount(self, value: u64) -> String {
        match self {
            Self::Time => format!("{:.3} ms", value as f64 / 1e6),
            counted => format!("{value} {counted}"),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parameters => "parameters",
            Self::Macs => "multiply-accumulates",
            Self::Bytes => "bytes",
            Self::Time => "nanoseconds",
        })
    }
}

/// How much of a resource the compressed network may use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// At most so much.
    AtMost(u64),
    /// At most this share of the original's.
    Share(f64),
}

impl Limit {
    /// The limit in numbers, given what the original uses.
    pub fn of(self, original: u64) -> u64 {
        match self {
            Self::AtMost(limit) => limit,
            Self::Share(share) => (original as f64 * share).floor() as u64,
        }
    }
}

/// What decides the ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// The least damage within a limit.
    Within {
        /// What is limited.
        resource: Resource,
        /// How much of it may be used.
        limit: Limit,
    },
    /// Per layer the smallest rank that keeps this share of the squared norm.
    Energy(f64),
    /// Per layer the smallest rank at which the mean squared error of its weights is at most this.
    MeanSquare(f64),
    /// One rank for all convolutions and one for all linear layers.
    UniformRank {
        /// For convolutions; they are kept where it is missing.
        conv: Option<usize>,
        /// For linear layers; they are kept where it is missing.
        fc: Option<usize>,
    },
    /// Ranks in proportion to sensitivities, with these averages.
    AverageRank {
        /// Of convolutions; they are kept where it is missing.
        conv: Option<f64>,
        /// Of linear layers; they are kept where it is missing.
        fc: Option<f64>,
    },
    /// The fewest parameters at which at most this share of the answers, expected from a sweep, turns wrong.
    MaxDrop(f64),
    /// The fewest parameters at which the divergences of the layers, from a sweep, add up to at most this.
    MaxDivergence(f64),
    /// A rank for every layer named; the others are kept.
    Ranks(Vec<LayerRank>),
}

/// One line of a list of ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRank {
    /// The layer.
    pub layer: String,
    /// Its rank.
    pub rank: crate::form::Rank,
    /// Its form; the paper's where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<crate::form::Form>,
}
