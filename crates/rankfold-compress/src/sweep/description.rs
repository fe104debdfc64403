//! What a sweep sweeps, and how.

use serde::{Deserialize, Serialize};

use super::cell::{Cell, Share};
use crate::form::{Form, Rank};

/// The version of the layout of a sweep's folder that this crate writes.
pub const SWEEP_VERSION: u32 = 1;

/// What a sweep's folder says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Version of the layout.
    pub version: u32,
    /// Version of the program.
    pub rankfold: String,
    /// The command line that began it.
    pub command: String,
    /// How cells are measured.
    pub protocol: Protocol,
    /// Seed of every random choice.
    pub seed: u64,
    /// The model.
    pub model: SweptModel,
    /// The inputs.
    pub data: SweptData,
    /// Every layer that takes part, with its cells.
    pub layers: Vec<SweptLayer>,
    /// The original network on the same inputs.
    pub baseline: Baseline,
}

/// How cells are measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Protocol {
    /// Several ranks of every form, batch norms estimated anew, no training.
    Curves,
    /// The paper's form at one small rank, the whole network fine-tuned.
    Paper {
        /// The rank.
        rank: usize,
        /// Epochs of training.
        epochs: usize,
    },
}

/// The model of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweptModel {
    /// Its name.
    pub name: String,
    /// Where it was read.
    pub path: Option<String>,
    /// The hash of its file.
    pub sha256: Option<String>,
    /// The hash of its layers' names and shapes.
    pub fingerprint: String,
    /// Learnable numbers of the whole network.
    pub parameters: u64,
    /// Multiply-accumulates of the whole network.
    pub macs: u64,
}

/// The inputs of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweptData {
    /// Where they come from.
    pub spec: String,
    /// The part that is measured on.
    pub split: String,
    /// How many inputs are measured on.
    pub images: usize,
    /// Whether they have labels.
    pub labelled: bool,
    /// Classes of the model's output.
    pub classes: Option<usize>,
    /// Hash of the inputs that are measured on.
    pub sha256: String,
    /// What factors are fitted to.
    pub calibration: Calibrated,
}

/// The calibration inputs of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibrated {
    /// The part of the data.
    pub split: String,
    /// How many.
    pub images: usize,
}

/// A layer of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweptLayer {
    /// The layer.
    pub name: String,
    /// Shape of its kernel.
    pub shape: [usize; 4],
    /// Its kernel parameters.
    pub parameters: u64,
    /// Its multiply-accumulates.
    pub macs: u64,
    /// Its forms.
    pub forms: Vec<SweptForm>,
    /// Why other forms are not possible.
    pub refused: Vec<String>,
}

/// A form of a layer and the ranks that are measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweptForm {
    /// The form.
    pub form: Form,
    /// The ranks.
    pub ranks: Vec<Rank>,
}

/// The original network on the inputs that are measured on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Inputs whose highest score is the label's.
    pub accuracy: Option<Share>,
    /// Inputs whose label is among the five highest scores.
    pub top5: Option<Share>,
    /// Zero: the divergence of the original from itself.
    pub kl: f64,
}

impl Sweep {
    /// The number of cells.
    pub fn cells(&self) -> usize {
        let forms = self.layers.iter().flat_map(|layer| &layer.forms);
        forms.map(|form| form.ranks.len()).sum()
    }

    /// True where the sweep has a place for the cell.
    pub fn has(&self, cell: &Cell) -> bool {
        let layers = self.layers.iter().filter(|layer| layer.name == cell.layer);
        let mut forms = layers.flat_map(|layer| &layer.forms);
        forms.any(|form| form.form == cell.form && form.ranks.contains(&cell.rank))
    }

    /// The first respect in which another sweep is another one: its name, this one's value and the
    /// other's. Paths, the command and the baseline do not count.
    pub fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let data = |sweep: &Self| {
            let SweptData {
                split,
                images,
                labelled,
                sha256,
                ..
            } = &sweep.data;
            format!("{images} inputs of {split}, labels: {labelled}, hash {sha256}")
        };
        let calibration = |sweep: &Self| {
            let Calibrated { split, images } = &sweep.data.calibration;
            format!("{images} inputs of {split}")
        };
        let model = |sweep: &Self| {
            let SweptModel {
                name,
                sha256,
                fingerprint,
                ..
            } = &sweep.model;
            let hash = sha256.as_deref().unwrap_or("of no file");
            format!("{name} {hash}, layers {fingerprint}")
        };
        let protocol = |sweep: &Self| match sweep.protocol {
            Protocol::Curves => "curves".to_owned(),
            Protocol::Paper { rank, epochs } => format!("paper, rank {rank}, {epochs} epochs"),
        };
        let text = |name: &'static str, of: &dyn Fn(&Self) -> String| {
            let (own, others) = (of(self), of(other));
            (own != others).then_some((name, own, others))
        };
        text("version", &|sweep| sweep.version.to_string())
            .or_else(|| text("rankfold's version", &|sweep| sweep.rankfold.clone()))
            .or_else(|| text("model", &model))
            .or_else(|| text("protocol", &protocol))
            .or_else(|| text("data", &data))
            .or_else(|| text("calibration", &calibration))
            .or_else(|| text("seed", &|sweep| sweep.seed.to_string()))
            .or_else(|| {
                let cells = |sweep: &Self| format!("{} cells", sweep.cells());
                (self.layers != other.layers)
                    .then(|| ("layers, forms or ranks", cells(self), cells(other)))
            })
    }
}
