use serde::{Deserialize, Serialize};

use super::{exactly, vector, weight};
use crate::error::OpError;
use crate::op::{Operation, Role};
use crate::shape::{Dim, Fact};
use crate::weights::{WeightName, Weights};

/// `(x − mean) / √(var + eps) · scale + shift`, channel by channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Name of the scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<WeightName>,
    /// Name of the shift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<WeightName>,
    /// Name of the running mean.
    pub mean: WeightName,
    /// Name of the running variance.
    pub var: WeightName,
    /// Added to the variance.
    pub eps: f64,
    /// Share of a new batch in the running statistics.
    pub momentum: f64,
}

impl Operation for BatchNorm {
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        let scale = self.scale.iter().map(|w| (Role::Scale, w));
        let shift = self.shift.iter().map(|w| (Role::Bias, w));
        let statistics = [&self.mean, &self.var].map(|w| (Role::Statistic, w));
        scale.chain(shift).chain(statistics).collect()
    }

    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        let affine = self.scale.iter_mut().chain(&mut self.shift);
        affine.chain([&mut self.mean, &mut self.var]).collect()
    }

    fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let channels = weight(weights, &self.mean)?.len();
        for name in [&self.mean, &self.var].into_iter().chain(&self.scale) {
            vector(weights, Some(name), channels)?;
        }
        vector(weights, self.shift.as_deref(), channels)?;
        check_channels(input, channels)?;
        Ok(vec![input.clone()])
    }
}

fn check_channels(input: &Fact, channels: usize) -> Result<(), OpError> {
    let Some(shape) = &input.shape else {
        return Ok(());
    };
    match shape.get(1) {
        Some(dim) if dim.may_equal(&Dim::Fixed(channels)) => Ok(()),
        _ => Err(OpError::Channels {
            expected: channels,
            got: input.clone(),
        }),
    }
}

/// Normalisation over the trailing dimensions that the scale has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    /// Name of the scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<WeightName>,
    /// Name of the shift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<WeightName>,
    /// Sizes of the trailing dimensions that are normalised together.
    pub shape: Vec<usize>,
    /// Added to the variance.
    pub eps: f64,
}

impl Operation for LayerNorm {
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        let scale = self.scale.iter().map(|w| (Role::Scale, w));
        scale
            .chain(self.shift.iter().map(|w| (Role::Bias, w)))
            .collect()
    }

    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        self.scale.iter_mut().chain(&mut self.shift).collect()
    }

    fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        for name in self.scale.iter().chain(&self.shift) {
            let tensor = weight(weights, name)?;
            if tensor.shape() != self.shape {
                return Err(OpError::WeightShape {
                    name: name.to_string(),
                    expected: "the normalised shape",
                    got: tensor.shape().to_vec(),
                });
            }
        }
        let fits = input.shape.as_ref().is_none_or(|shape| {
            shape.len() >= self.shape.len()
                && shape[shape.len() - self.shape.len()..]
                    .iter()
                    .zip(&self.shape)
                    .all(|(dim, &n)| dim.may_equal(&Dim::Fixed(n)))
        });
        if !fits {
            return Err(OpError::Channels {
                expected: self.shape.iter().product(),
                got: input.clone(),
            });
        }
        Ok(vec![input.clone()])
    }
}

/// Normalisation over groups of channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupNorm {
    /// Name of the scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<WeightName>,
    /// Name of the shift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<WeightName>,
    /// Groups of channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
}

impl Operation for GroupNorm {
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        let scale = self.scale.iter().map(|w| (Role::Scale, w));
        scale
            .chain(self.shift.iter().map(|w| (Role::Bias, w)))
            .collect()
    }

    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        self.scale.iter_mut().chain(&mut self.shift).collect()
    }

    fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let channels = input.shape.as_ref().and_then(|s| s.get(1)?.fixed());
        if let Some(channels) = channels {
            vector(weights, self.scale.as_deref(), channels)?;
            vector(weights, self.shift.as_deref(), channels)?;
            if self.groups == 0 || !channels.is_multiple_of(self.groups) {
                return Err(OpError::Groups {
                    channels,
                    groups: self.groups,
                });
            }
        }
        Ok(vec![input.clone()])
    }
}

/// `x / (k + alpha / size · Σ x²)^beta` over neighbouring channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalResponseNorm {
    /// Channels in the window.
    pub size: usize,
    /// Factor of the sum.
    pub alpha: f64,
    /// Exponent.
    pub beta: f64,
    /// Constant term.
    pub k: f64,
}

impl Operation for LocalResponseNorm {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        Ok(vec![input.clone()])
    }
}
