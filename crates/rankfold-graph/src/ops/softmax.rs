use serde::{Deserialize, Serialize};

use super::{axis_index, exactly};
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::Fact;
use crate::weights::Weights;

/// Softmax along an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Softmax {
    /// The axis; negative from the end.
    pub axis: i64,
    /// Its logarithm instead.
    #[serde(default)]
    pub log: bool,
}

impl Operation for Softmax {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        if let Some(shape) = &input.shape {
            axis_index(self.axis, shape.len(), input)?;
        }
        Ok(vec![input.clone()])
    }
}
