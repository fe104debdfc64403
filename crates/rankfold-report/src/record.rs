//! The record that `compress` leaves: `report.json`.

use rankfold_compress::{Form, Rank, Resource};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a compression did. What an older record does not have is empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The model's name.
    pub model: Option<String>,
    /// The model as it was.
    pub before: Option<Side>,
    /// The model as it was written.
    pub after: Option<Side>,
    /// The budget, where it was a limit of the whole network.
    pub budget: Option<Goal>,
    /// What else was tried and measured on the way.
    pub tried: Vec<Tried>,
    /// The steps in which it was made, where there are any to tell.
    pub steps: Vec<Done>,
    /// The layers, in order.
    pub layers: Vec<Layer>,
    /// What was done to the network as a whole.
    pub adjustments: Map<String, Value>,
    /// Where it all came from.
    pub provenance: Provenance,
    /// What it was done on.
    pub machine: Machine,
}

/// One of the two models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Side {
    /// Learnable numbers.
    pub parameters: u64,
    /// Multiply-accumulates for one item; 0 where they cannot be counted.
    pub macs: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Accuracy in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// Its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_se: Option<f64>,
    /// How often the answer was among the first five, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// Its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5_se: Option<f64>,
    /// Mean cross-entropy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Images that these were measured on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
}

/// A model that was measured on the way to the one that was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// What it is called.
    pub name: String,
    /// What it costs and reaches.
    #[serde(flatten)]
    pub side: Side,
}

/// A step that was taken, and the model after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The step, as it is called in options.
    pub step: String,
    /// What it did, in words.
    pub did: String,
    /// What the model then costs and reaches.
    #[serde(flatten)]
    pub side: Side,
}

/// A limit of the whole network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// What is limited.
    pub resource: Resource,
    /// To how much.
    pub limit: u64,
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// The form that it has now.
    pub form: Form,
    /// Its rank.
    #[serde(default)]
    pub rank: Option<Rank>,
    /// The shape of its kernel: out, in / groups, rows, columns.
    pub shape: [u64; 4],
    /// Learnable numbers before and after.
    pub parameters: [u64; 2],
    /// Multiply-accumulates before and after.
    pub macs: [u64; 2],
    /// Bytes before and after.
    #[serde(default)]
    pub bytes: [u64; 2],
    /// ‖W − Ŵ‖ / ‖W‖.
    #[serde(default)]
    pub weight_error: Option<f64>,
    /// The relative error of its response.
    #[serde(default)]
    pub response_error: Option<f64>,
    /// The forms that it could not take, each with why.
    #[serde(default)]
    pub refused: Vec<String>,
    /// The singular values of its kernel as a matrix of a row per output channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spectrum: Option<Spectrum>,
    /// What every form loses at every rank that was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
}

impl Layer {
    /// The relative error of the response, or of the weights where there were no data.
    pub fn error(&self) -> Option<f64> {
        self.response_error.or(self.weight_error)
    }
}

/// Singular values, a few dozen at most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// How many there are in all.
    pub count: usize,
    /// Which ones these are, from 1.
    pub index: Vec<usize>,
    /// Their values in units of the largest.
    pub value: Vec<f64>,
}

/// What a form loses, rank by rank; the columns are of one length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The form.
    pub form: Form,
    /// The ranks, ascending.
    pub rank: Vec<Rank>,
    /// Numbers in the kernels.
    pub parameters: Vec<u64>,
    /// Multiply-accumulates.
    pub macs: Vec<u64>,
    /// The relative error of the response, or of the weights where there were no data.
    pub error: Vec<f64>,
    /// What the error does to the output, where that was estimated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<f64>,
}

/// Where a model came from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The file.
    pub source: Option<String>,
    /// Its hash.
    pub sha256: Option<String>,
    /// The version of the program.
    pub rankfold: Option<String>,
    /// What was asked for, in words.
    pub request: Option<String>,
    /// The seed of every random choice.
    pub seed: Option<u64>,
    /// What was calibrated on.
    pub calibration: Option<String>,
    /// What was simplified first.
    pub simplified: Option<Map<String, Value>>,
    /// The command line.
    pub command: Option<String>,
    /// The same of the model that it was made from.
    pub previous: Option<Box<Provenance>>,
}

/// What work was done on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// Threads that work at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Operating system and architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Where the network ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The version of libtorch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libtorch: Option<String>,
}
