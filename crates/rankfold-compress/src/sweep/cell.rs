//! What was measured with one layer replaced.

use serde::{Deserialize, Serialize};

use crate::form::{Form, Rank};

/// How many of the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Inputs that were answered rightly.
    pub correct: u64,
    /// All inputs.
    pub of: u64,
}

impl Share {
    /// The share, from 0 to 1.
    pub fn value(self) -> f64 {
        self.correct as f64 / self.of.max(1) as f64
    }

    /// The binomial standard error √(p(1−p)/n) of the share.
    pub fn standard_error(self) -> f64 {
        let p = self.value();
        (p * (1.0 - p) / self.of.max(1) as f64).sqrt()
    }
}

/// Inputs whose answer became wrong or right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// Right before, wrong now.
    pub lost: u64,
    /// Wrong before, right now.
    pub gained: u64,
}

impl Changed {
    /// The share of `of` inputs by which accuracy fell, and the standard error of that paired
    /// difference, √((b + c − (b − c)²/n) / n²) for b lost and c gained of n.
    pub fn drop(self, of: u64) -> (f64, f64) {
        let n = of.max(1) as f64;
        let (lost, gained) = (self.lost as f64, self.gained as f64);
        let difference = lost - gained;
        let variance = lost + gained - difference * difference / n;
        (difference / n, variance.max(0.0).sqrt() / n)
    }
}

/// One layer alone in one form at one rank, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The layer.
    pub layer: String,
    /// Its form.
    pub form: Form,
    /// Its rank.
    pub rank: Rank,
    /// Kernel parameters of what the layer became.
    pub layer_parameters: u64,
    /// Multiply-accumulates of what the layer became.
    pub layer_macs: u64,
    /// ‖W − Ŵ‖ / ‖W‖.
    pub weight_error: f64,
    /// Relative error of the layer's response.
    pub response_error: Option<f64>,
    /// Inputs whose highest score is the label's.
    pub accuracy: Option<Share>,
    /// Inputs whose label is among the five highest scores.
    pub top5: Option<Share>,
    /// Inputs whose first answer became wrong or right.
    pub changed: Option<Changed>,
    /// Mean divergence of the outputs from the original's.
    pub kl: f64,
    /// Its standard error.
    pub kl_se: f64,
    /// Whether batch norms behind the layer were estimated anew.
    pub recalibrated: bool,
    /// Time that the cell took.
    pub seconds: f64,
}

impl Cell {
    /// True for the cell of that place in the sweep.
    pub fn is_at(&self, layer: &str, form: Form, rank: Rank) -> bool {
        self.layer == layer && self.form == form && self.rank == rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_errors_are_those_of_the_textbook() {
        let share = Share {
            correct: 90,
            of: 100,
        };
        assert!((share.standard_error() - 0.03).abs() < 1e-12);
        let changed = Changed {
            lost: 30,
            gained: 10,
        };
        let (drop, error) = changed.drop(1000);
        assert!((drop - 0.02).abs() < 1e-12);
        assert!((error - (39.6f64).sqrt() / 1000.0).abs() < 1e-12);
    }

    #[test]
    fn cells_are_read_as_they_are_written() {
        let text = r#"{"layer":"conv","form":"tucker2","rank":[3,4],"layer_parameters":5,"layer_macs":6,"weight_error":0.5,"response_error":null,"accuracy":{"correct":1,"of":2},"top5":null,"changed":{"lost":1,"gained":0},"kl":0.25,"kl_se":0.125,"recalibrated":false,"seconds":1.5}"#;
        let cell: Cell = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&cell).unwrap(), text);
        assert!(cell.is_at("conv", Form::Tucker2, Rank::Two([3, 4])));
    }
}
