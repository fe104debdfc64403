use serde::{Deserialize, Serialize};

use super::{exactly, weight};
use crate::error::OpError;
use crate::op::{Operation, Role};
use crate::shape::{Dim, Fact};
use crate::weights::{WeightName, Weights};

/// Rows of a table `[entries, features]`, looked up by integers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// Name of the table.
    pub weight: WeightName,
}

impl Operation for Embedding {
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        vec![(Role::Table, &self.weight)]
    }

    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        vec![&mut self.weight]
    }

    fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        let [indices] = exactly(inputs)?;
        let table = weight(weights, &self.weight)?;
        let &[_, features] = table.shape() else {
            return Err(OpError::WeightShape {
                name: self.weight.to_string(),
                expected: "[entries, features]",
                got: table.shape().to_vec(),
            });
        };
        let shape = indices.shape.clone().map(|mut shape| {
            shape.push(Dim::Fixed(features));
            shape
        });
        let dtype = table.dtype();
        Ok(vec![Fact { dtype, shape }])
    }
}
