//! What is known of a model besides its structure.

use serde::{Deserialize, Serialize};

/// Facts about a model that its graph does not show.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// The network's name, as `resnet20`.
    #[serde(default)]
    pub name: String,
    /// How raw inputs in [0, 1] are normalised, where the model takes images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalization: Option<Normalization>,
    /// The shorter side that images are brought to before the centre is cut out, where it is another than
    /// usual for an input of that size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
}

/// `(x − mean) / std`, channel by channel, of inputs in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Means.
    pub mean: Vec<f32>,
    /// Standard deviations.
    pub std: Vec<f32>,
}

impl Normalization {
    /// The customary statistics of ImageNet.
    pub fn imagenet() -> Self {
        Self {
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        }
    }

    /// Inputs in [0, 1] as they are.
    pub fn none(channels: usize) -> Self {
        Self {
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
        }
    }
}
