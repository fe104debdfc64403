//! What fine-tuning wrote as it went: `metrics.jsonl`.

use serde::Deserialize;

use crate::sweep::Tally;

/// Which network learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The compressed one.
    Compressed,
    /// The original, trained alike: what fine-tuning alone does.
    Control,
    /// One that was trained by itself.
    Model,
}

impl Network {
    /// What it is called.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Compressed => "compressed",
            Self::Control => "dense control",
            Self::Model => "model",
        }
    }
}

/// One epoch of one network.
#[derive(Debug, Clone, Deserialize)]
pub struct Epoch {
    /// The network.
    pub network: Network,
    /// The stage of the schedule.
    #[serde(default)]
    pub stage: Option<String>,
    /// The epoch within the stage; 0 is before any step.
    pub epoch: u64,
    /// Mean training loss.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Learning rate.
    #[serde(default)]
    pub rate: Option<f64>,
    /// How it did on inputs that it did not learn from.
    #[serde(default)]
    pub mark: Option<Mark>,
}

/// What an epoch was judged by.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Mark {
    /// Inputs seen.
    pub inputs: u64,
    /// Of these, how many got their label.
    #[serde(default)]
    pub correct: Option<u64>,
    /// Mean divergence of the outputs from the teacher's.
    #[serde(default)]
    pub divergence: Option<f64>,
}

impl Epoch {
    /// Whether anything was learnt in it.
    pub(crate) fn learnt(&self) -> bool {
        self.epoch > 0
    }

    /// Answers that were right.
    pub(crate) fn accuracy(&self) -> Option<Tally> {
        let mark = self.mark?;
        Some(Tally {
            correct: mark.correct?,
            of: mark.inputs,
        })
    }
}
