use serde::{Deserialize, Serialize};

use super::{elements, exactly, vector, weight};
use crate::error::OpError;
use crate::op::{Operation, Role};
use crate::shape::{Dim, Fact};
use crate::weights::{WeightName, Weights};

/// `x Wᵀ + b` over the last dimension; weights `[out, in]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Name of the matrix.
    pub weight: WeightName,
    /// Name of the bias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<WeightName>,
}

impl Operation for Linear {
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        let bias = self.bias.iter().map(|b| (Role::Bias, b));
        std::iter::once((Role::Kernel, &self.weight))
            .chain(bias)
            .collect()
    }

    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        std::iter::once(&mut self.weight)
            .chain(&mut self.bias)
            .collect()
    }

    fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let matrix = weight(weights, &self.weight)?.shape();
        let &[out, features] = matrix else {
            return Err(OpError::WeightShape {
                name: self.weight.to_string(),
                expected: "[out, in]",
                got: matrix.to_vec(),
            });
        };
        vector(weights, self.bias.as_deref(), out)?;
        let Some(shape) = &input.shape else {
            return Ok(vec![input.clone()]);
        };
        let Some((last, rest)) = shape.split_last() else {
            return Err(OpError::Rank {
                expected: 2,
                got: input.clone(),
            });
        };
        if !last.may_equal(&Dim::Fixed(features)) {
            return Err(OpError::Channels {
                expected: features,
                got: input.clone(),
            });
        }
        let mut result = rest.to_vec();
        result.push(Dim::Fixed(out));
        Ok(vec![input.with_shape(result)])
    }

    fn macs(&self, _: &[&Fact], outputs: &[&Fact], weights: &Weights) -> Option<u64> {
        let features = *weights.get(&self.weight)?.shape().get(1)?;
        elements(outputs.first()?)?.checked_mul(features as u64)
    }
}
