//! What a sweep measured: `sweep.json` and `cells.jsonl`.

use rankfold_compress::{Form, Rank};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::plot::scale::Spread;

/// A sweep and the cells that were measured so far.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Sweep {
    /// The version of the program.
    pub rankfold: Option<String>,
    /// The command line.
    pub command: Option<String>,
    /// What was measured and how.
    pub protocol: Map<String, Value>,
    /// The seed of every random choice.
    pub seed: Option<u64>,
    /// What was swept.
    pub model: Swept,
    /// What it was measured on.
    pub data: Inputs,
    /// The layers that take part.
    pub layers: Vec<SweptLayer>,
    /// The original on the same inputs.
    pub baseline: Measured,
    /// The cells, in the order of the file.
    #[serde(skip)]
    pub cells: Vec<Cell>,
}

/// The model of a sweep.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Swept {
    /// Its name.
    pub name: Option<String>,
    /// Its file.
    pub path: Option<String>,
    /// The hash of the file.
    pub sha256: Option<String>,
    /// Learnable numbers.
    pub parameters: u64,
    /// Multiply-accumulates for one item.
    pub macs: u64,
}

/// The inputs of a sweep.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Inputs {
    /// Where they are from.
    pub spec: Option<String>,
    /// Which part of it.
    pub split: Option<String>,
    /// How many.
    pub images: Option<u64>,
}

/// A layer that takes part.
#[derive(Debug, Clone, Deserialize)]
pub struct SweptLayer {
    /// Its name.
    pub name: String,
    /// Learnable numbers of the layer as it is.
    #[serde(default)]
    pub parameters: u64,
    /// Its multiply-accumulates.
    #[serde(default)]
    pub macs: u64,
    /// The cells that the sweep means to measure.
    #[serde(default)]
    pub forms: Vec<SweptForm>,
}

/// The ranks at which a form of a layer is measured.
#[derive(Debug, Clone, Deserialize)]
pub struct SweptForm {
    /// The form.
    pub form: Form,
    /// The ranks.
    pub ranks: Vec<Rank>,
}

/// Answers that were right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub correct: u64,
    /// Of how many.
    pub of: u64,
}

impl Tally {
    /// The share in percent; none of nothing.
    pub fn percent(self) -> Option<f64> {
        (self.of > 0).then(|| 100.0 * self.correct as f64 / self.of as f64)
    }

    /// The standard error of the share, in points.
    pub fn error(self) -> Option<f64> {
        let share = self.percent()? / 100.0;
        Some(100.0 * (share * (1.0 - share) / self.of as f64).max(0.0).sqrt())
    }
}

/// What the outputs of a network were like.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Answers that were right.
    pub accuracy: Option<Tally>,
    /// Answers among whose first five was the right one.
    pub top5: Option<Tally>,
    /// Mean divergence of the outputs from the original's.
    pub kl: Option<f64>,
    /// Its standard error.
    pub kl_se: Option<f64>,
}

/// Inputs that are answered differently than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Changed {
    /// Rightly before, wrongly now.
    pub lost: u64,
    /// Wrongly before, rightly now.
    pub gained: u64,
}

/// One layer in one form at one rank, all others as they were.
#[derive(Debug, Clone, Deserialize)]
pub struct Cell {
    /// The layer.
    pub layer: String,
    /// Its form.
    pub form: Form,
    /// Its rank.
    pub rank: Rank,
    /// Kernel parameters of what the layer became.
    #[serde(default)]
    pub layer_parameters: Option<u64>,
    /// Their multiply-accumulates.
    #[serde(default)]
    pub layer_macs: Option<u64>,
    /// The relative error of the layer's response.
    #[serde(default)]
    pub response_error: Option<f64>,
    /// How accuracy changed.
    #[serde(default)]
    pub changed: Option<Changed>,
    /// What the outputs are like.
    #[serde(flatten)]
    pub measured: Measured,
    /// Time that it took.
    #[serde(default)]
    pub seconds: Option<f64>,
}

/// A difference and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Drop {
    pub(crate) value: f64,
    pub(crate) error: Option<f64>,
}

impl Sweep {
    /// Cells that are still to be measured.
    pub(crate) fn missing(&self) -> usize {
        let forms = self.layers.iter().flat_map(|layer| &layer.forms);
        let meant: usize = forms.map(|form| form.ranks.len()).sum();
        meant.saturating_sub(self.cells.len())
    }

    /// True where accuracy was measured, false where there were no labels.
    pub(crate) fn labelled(&self) -> bool {
        let measured = |m: &Measured| m.accuracy.is_some_and(|tally| tally.of > 0);
        measured(&self.baseline) && self.cells.iter().any(|cell| measured(&cell.measured))
    }

    /// The points of accuracy that a cell loses. Both networks see the same inputs, so that the error is
    /// that of the inputs answered differently.
    pub(crate) fn accuracy_drop(&self, cell: &Cell) -> Option<Drop> {
        let (before, after) = (self.baseline.accuracy?, cell.measured.accuracy?);
        let value = before.percent()? - after.percent()?;
        let of = after.of as f64;
        let paired = cell.changed.map(|Changed { lost, gained }| {
            let (lost, gained) = (lost as f64 / of, gained as f64 / of);
            100.0 * ((lost + gained - (lost - gained).powi(2)).max(0.0) / of).sqrt()
        });
        let error = paired.or_else(|| Some(before.error()?.hypot(after.error()?)));
        Some(Drop { value, error })
    }

    /// What a cell loses: points of accuracy, or divergence where there are no labels.
    pub(crate) fn loss(&self, cell: &Cell) -> Option<Drop> {
        if self.labelled() {
            return self.accuracy_drop(cell);
        }
        Some(Drop {
            value: cell.measured.kl?,
            error: cell.measured.kl_se,
        })
    }

    /// Two standard errors of most losses: what is less may be chance.
    pub(crate) fn noise(&self) -> Option<f64> {
        let errors = self.cells.iter().filter_map(|cell| self.loss(cell)?.error);
        let mut errors: Vec<f64> = errors.filter(|error| *error > 0.0).collect();
        errors.sort_by(f64::total_cmp);
        Some(2.0 * errors.get(errors.len() / 2)?)
    }

    /// How losses are spread along an axis: evenly where they may be chance.
    pub(crate) fn spread(&self) -> Spread {
        let (least, most) = if self.labelled() {
            (0.2, 5.0)
        } else {
            (1e-4, 1.0)
        };
        Spread::Beyond(self.noise().unwrap_or(0.0).clamp(least, most))
    }

    /// Parameters and multiply-accumulates of the whole network of a cell.
    pub(crate) fn network(&self, cell: &Cell) -> Option<[u64; 2]> {
        let layer = self.layers.iter().find(|layer| layer.name == cell.layer)?;
        let whole = |all: u64, own: u64, new: u64| {
            (all > 0).then(|| all.checked_sub(own)?.checked_add(new))?
        };
        Some([
            whole(
                self.model.parameters,
                layer.parameters,
                cell.layer_parameters?,
            )?,
            whole(
                self.model.macs,
                layer.macs,
                cell.layer_macs.unwrap_or(layer.macs),
            )
            .unwrap_or(0),
        ])
    }
}
