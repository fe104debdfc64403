use serde::{Deserialize, Serialize};

use crate::error::OpError;
use crate::op::{Operation, Role};
use crate::shape::Fact;
use crate::weights::{WeightName, Weights};

/// An operation that is carried through unchanged because its meaning is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opaque {
    /// Its name in the file that it came from, as `aten.roll.default`.
    pub target: String,
    /// Weights that it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightName>,
    /// What the file said of its outputs.
    pub outputs: Vec<Fact>,
}

impl Operation for Opaque {
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        self.weights.iter().map(|w| (Role::Table, w)).collect()
    }

    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        self.weights.iter_mut().collect()
    }

    fn infer(&self, _: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        for name in &self.weights {
            super::weight(weights, name)?;
        }
        Ok(self.outputs.clone())
    }

    fn macs(&self, _: &[&Fact], _: &[&Fact], _: &Weights) -> Option<u64> {
        None
    }
}
