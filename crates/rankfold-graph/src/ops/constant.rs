use serde::{Deserialize, Serialize};

use super::{exactly, weight};
use crate::error::OpError;
use crate::op::{Operation, Role};
use crate::shape::{Dim, Fact};
use crate::weights::{WeightName, Weights};

/// A weight (a learned token, a mask, a table of positions) as a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Constant {
    /// Name of the weight.
    pub weight: WeightName,
    /// True where training changes it.
    pub learnable: bool,
}

impl Operation for Constant {
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        let role = if self.learnable {
            Role::Table
        } else {
            Role::Constant
        };
        vec![(role, &self.weight)]
    }

    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        vec![&mut self.weight]
    }

    fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        let [] = exactly(inputs)?;
        let tensor = weight(weights, &self.weight)?;
        let shape = tensor.shape().iter().map(|&n| Dim::Fixed(n));
        Ok(vec![Fact::new(tensor.dtype(), shape)])
    }
}
