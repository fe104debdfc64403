use serde::{Deserialize, Serialize};

use super::{exactly, ranked};
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::{Dim, Fact};
use crate::weights::Weights;

/// A constant added around every dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    /// Elements added before and after, for every dimension; negative ones are cut off.
    pub padding: Vec<[i64; 2]>,
    /// The constant.
    pub value: f64,
}

impl Operation for Pad {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let Some(shape) = ranked(input, self.padding.len())? else {
            return Ok(vec![input.clone()]);
        };
        let mut result = Vec::with_capacity(shape.len());
        for (dim, &[before, after]) in shape.iter().zip(&self.padding) {
            result.push(match dim.fixed() {
                None if before == 0 && after == 0 => dim.clone(),
                None => Dim::UNKNOWN,
                Some(n) => {
                    let padded = i128::from(before) + i128::from(after) + n as i128;
                    Dim::Fixed(usize::try_from(padded).map_err(|_| OpError::Attribute {
                        attribute: "padding",
                        reason: "more is cut off than there is",
                    })?)
                }
            });
        }
        Ok(vec![input.with_shape(result)])
    }
}
