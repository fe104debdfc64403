use serde::{Deserialize, Serialize};

use super::exactly;
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::Fact;
use crate::weights::Weights;

/// Zeroing a random share of the elements while training; nothing otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    /// The share.
    pub p: f64,
}

impl Operation for Dropout {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        if !(0.0..=1.0).contains(&self.p) {
            return Err(OpError::Attribute {
                attribute: "p",
                reason: "a probability lies between 0 and 1",
            });
        }
        Ok(vec![input.clone()])
    }
}
