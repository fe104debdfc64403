//! Everything from which training goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use rankfold_formats::{SaveOptions, StateDict, read_weights, write_safetensors};
use rankfold_torch::{Parameter, from_torch, to_torch};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{At, FinetuneError, Result};
use crate::exam::Mark;
use crate::guard::Level;
use crate::optimizer::Optimizer;

const STEP: &str = "copying weights";
/// The key of a checkpoint's metadata.
const METADATA_KEY: &str = "rankfold-training";

/// What an epoch came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Epochs done; 0 is before the first step.
    pub epoch: usize,
    /// Steps done.
    pub steps: usize,
    /// The mean of what was minimised.
    pub loss: f64,
    /// Of this, the part of the outputs alone.
    pub outputs: f64,
    /// Share of the inputs that got their label while learning, in percent; none without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_accuracy: Option<f64>,
    /// The last learning rate.
    pub rate: f64,
    /// Times that a diverging step was taken back.
    pub taken_back: usize,
    /// How the network did on inputs that it did not learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// How long the epoch took.
    pub seconds: f64,
    /// Inputs learnt from per second.
    pub inputs_per_second: f64,
}

/// Sums over an epoch that is not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) loss: f64,
    pub(crate) outputs: f64,
    pub(crate) correct: usize,
    pub(crate) inputs: usize,
    pub(crate) steps: usize,
    pub(crate) seconds: f64,
}

/// Where training stands, but for the tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) epoch: usize,
    /// Steps of this epoch.
    pub(crate) step: usize,
    /// What the rate is multiplied by after diverging steps.
    pub(crate) scale: f64,
    pub(crate) taken_back: usize,
    pub(crate) level: Level,
    pub(crate) sums: Sums,
    pub(crate) epochs: Vec<Epoch>,
    /// The best epoch and its mark.
    pub(crate) best: Option<(usize, Mark)>,
    pub(crate) optimizer_steps: usize,
}

/// A copy of everything from which training goes on.
#[derive(Debug)]
pub struct State {
    pub(crate) position: Position,
    pub(crate) weights: Vec<Tensor>,
    pub(crate) means: Vec<Vec<Tensor>>,
    pub(crate) best: Option<Rc<Vec<Tensor>>>,
    names: Rc<[String]>,
}

impl State {
    /// Copies of all that changes.
    pub(crate) fn of(
        position: &Position,
        parameters: &[Parameter],
        optimizer: &Optimizer,
        best: Option<&Rc<Vec<Tensor>>>,
    ) -> Result<Self> {
        let means = optimizer.means().iter().map(|means| copies(means.iter()));
        let names = parameters.iter().map(|p| p.name.to_string());
        Ok(Self {
            position: position.clone(),
            weights: copies(parameters.iter().map(|p| &p.tensor))?,
            means: means.collect::<Result<_>>()?,
            best: best.cloned(),
            names: names.collect(),
        })
    }

    /// Writes the state, all or nothing; `of` says what it is the state of.
    pub fn write(&self, path: &Path, of: &str) -> Result<()> {
        let mut tensors = StateDict::new();
        let mut insert = |kind: &str, name: &str, tensor: &Tensor| -> Result<()> {
            let tensor = from_torch(tensor)?;
            let duplicate = |_| FinetuneError::Checkpoint {
                path: path.to_owned(),
                reason: format!("two tensors named {kind}/{name}"),
            };
            tensors
                .insert(format!("{kind}/{name}"), tensor)
                .map_err(duplicate)
        };
        for (place, name) in self.names.iter().enumerate() {
            insert("weight", name, &self.weights[place])?;
            for (order, mean) in self.means.get(place).into_iter().flatten().enumerate() {
                insert(&format!("mean{order}"), name, mean)?;
            }
            if let Some(best) = &self.best {
                insert("best", name, &best[place])?;
            }
        }
        let saved = Saved {
            of: of.to_owned(),
            position: self.position.clone(),
        };
        let json = serde_json::to_string(&saved).map_err(|e| FinetuneError::Checkpoint {
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
        let options = SaveOptions {
            metadata: BTreeMap::from([(METADATA_KEY.to_owned(), json)]),
            float_dtype: None,
        };
        Ok(write_safetensors(path, &tensors, &options)?)
    }

    /// The state in a file, and what it is the state of.
    pub fn read(path: &Path) -> Result<(Self, String)> {
        let broken = |reason: String| FinetuneError::Checkpoint {
            path: path.to_owned(),
            reason,
        };
        let checkpoint = read_weights(path)?;
        let json = checkpoint.metadata.get(METADATA_KEY);
        let json = json.ok_or_else(|| broken("it is no training checkpoint".to_owned()))?;
        let saved: Saved = serde_json::from_str(json).map_err(|e| broken(e.to_string()))?;
        let names: Rc<[String]> = checkpoint
            .tensors
            .names()
            .filter_map(|name| Some(name.strip_prefix("weight/")?.to_owned()))
            .collect();
        let tensor = |kind: &str, name: &str| -> Result<Option<Tensor>> {
            let stored = checkpoint.tensors.get(&format!("{kind}/{name}"));
            Ok(stored.map(to_torch).transpose()?)
        };
        let all = |kind: &str| -> Result<Vec<Tensor>> {
            let found = names.iter().map(|name| tensor(kind, name));
            Ok(found
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        };
        let means = |name: &String| -> Result<Vec<Tensor>> {
            let found = (0..2).map(|order| tensor(&format!("mean{order}"), name));
            Ok(found
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        };
        let best = all("best")?;
        let state = Self {
            weights: all("weight")?,
            means: names.iter().map(means).collect::<Result<_>>()?,
            best: (!best.is_empty()).then(|| Rc::new(best)),
            position: saved.position,
            names: names.clone(),
        };
        Ok((state, saved.of))
    }

    /// An error unless the state is one of these weights.
    pub(crate) fn check(&self, parameters: &[Parameter]) -> Result<()> {
        let fits = parameters.len() == self.names.len()
            && (parameters.iter().zip(self.names.iter()).zip(&self.weights))
                .all(|((p, name), own)| *p.name == **name && p.tensor.size() == own.size());
        match fits {
            true => Ok(()),
            false => Err(FinetuneError::OtherNetwork),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    of: String,
    position: Position,
}

/// Copies of tensors as they are now.
pub(crate) fn copies<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<Vec<Tensor>> {
    let _guard = tch::no_grad_guard();
    let copy = |tensor: &Tensor| {
        let tensor = tensor.f_detach()?;
        let mut own = tensor.f_zeros_like()?;
        own.f_copy_(&tensor)?;
        Ok(own)
    };
    tensors.map(|tensor| copy(tensor).at(STEP)).collect()
}

/// Writes values into tensors.
pub(crate) fn overwrite<'a>(
    tensors: impl Iterator<Item = &'a Tensor>,
    values: &[Tensor],
) -> Result<()> {
    let _guard = tch::no_grad_guard();
    for (tensor, value) in tensors.zip(values) {
        let mut handle = tensor.shallow_clone();
        handle.f_copy_(value).at(STEP)?;
    }
    Ok(())
}
