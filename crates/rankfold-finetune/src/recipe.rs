//! How a network is trained.

use rankfold_graph::DType;
use rankfold_torch::Device;

use crate::optimizer::Method;
use crate::schedule::Fall;

/// How long a stage lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Passes over the data.
    Epochs(usize),
    /// Batches.
    Steps(usize),
}

/// Learning from another network's answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Teaching {
    /// T, by which scores are divided before they are compared.
    pub temperature: f64,
    /// Weight of the relative squared errors of the blocks' outputs; 0 looks at outputs only.
    pub block_weight: f64,
}

impl Default for Teaching {
    fn default() -> Self {
        Self {
            temperature: 3.0,
            block_weight: 10.0,
        }
    }
}

/// What outputs are compared with where nobody but the data tells, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aim {
    /// With the classes that labels name, by cross-entropy.
    #[default]
    Classes,
    /// With numbers, by the mean squared error: the data's targets or, where they have none, the inputs.
    MeanSquare,
    /// With the same numbers, by the root of the mean squared error of a batch.
    RootMeanSquare,
}

/// What weights cost by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Penalty {
    /// Weight of Σ|w| over all kernels.
    pub l1: f64,
    /// Weight of ½·Σw² over all kernels.
    pub l2: f64,
}

impl Penalty {
    /// True where weights cost nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything that decides what training does, but for the data.
///
/// The loss is `label_weight` times the cross-entropy of the labels (or what else [`Aim`] says), plus
/// what [`Teaching`] adds where there is a teacher: T²·KL of softened class probabilities and the errors
/// of all blocks' outputs; plus the [`Penalty`].
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// How long every stage lasts.
    pub length: Length,
    /// How gradients become steps.
    pub method: Method,
    /// The highest learning rate.
    pub rate: f64,
    /// What the rate of factors is multiplied by.
    pub factor_rate: f64,
    /// Share of a kernel that a step at rate 1 takes away. Biases and normalisations do not decay.
    pub decay: f64,
    /// How the rate falls.
    pub fall: Fall,
    /// Steps over which the rate rises.
    pub warm_up: usize,
    /// The longest gradient; none for any.
    pub clip: Option<f64>,
    /// Share of the labels' weight that is spread over all classes.
    pub smoothing: f64,
    /// Share of the inputs that are mixed with another one of their batch, by up to a half.
    pub mixed: f64,
    /// Batch-norm statistics stay as they are, and are not those of the batch.
    pub frozen_statistics: bool,
    /// Weight of the labels' cross-entropy.
    pub label_weight: f64,
    /// What labels, or what else the data tell, are.
    pub aim: Aim,
    /// What weights cost.
    pub penalty: Penalty,
    /// Weights of kernels that are zero at the start of a stage stay zero.
    pub keep_zeros: bool,
    /// How the teacher's answers count, where there is one.
    pub teaching: Teaching,
    /// Decides mixing and dropout; order and views are the loader's.
    pub seed: u64,
    /// Where.
    pub device: Device,
    /// The type that is computed in; weights and what decides stay in f32.
    pub dtype: DType,
}

impl Default for Recipe {
    /// What recovers a compressed network: AdamW with a short warm-up and a cosine, gradients no longer
    /// than 1, learning from a teacher.
    fn default() -> Self {
        Self {
            length: Length::Epochs(10),
            method: Method::ADAMW,
            rate: 2e-3,
            factor_rate: 1.0,
            decay: 0.0,
            fall: Fall::Cosine,
            warm_up: 100,
            clip: Some(1.0),
            smoothing: 0.0,
            mixed: 0.5,
            frozen_statistics: false,
            label_weight: 0.0,
            aim: Aim::Classes,
            penalty: Penalty::default(),
            keep_zeros: false,
            teaching: Teaching::default(),
            seed: 0,
            device: Device::Cpu,
            dtype: DType::F32,
        }
    }
}

impl Recipe {
    /// Some hundred steps on few inputs without labels, for a network that diverges so far from its
    /// teacher: what is badly damaged bears, and needs, larger steps. Statistics stay as they are: on
    /// few inputs they are worth more than what would be estimated anew.
    pub fn lessons(steps: usize, divergence: f64) -> Self {
        let rate = 4e-3 * (divergence.max(0.0) / 0.12).powf(0.3);
        Self {
            length: Length::Steps(steps),
            rate: rate.clamp(5e-4, 4e-3),
            warm_up: 20,
            frozen_statistics: true,
            teaching: Teaching {
                block_weight: 100.0,
                ..Teaching::default()
            },
            ..Self::default()
        }
    }

    /// The recipe of Astrid and Lee (2018): labels only, stochastic gradient descent with momentum at
    /// 10⁻³, a tenth of it after every five of fifteen epochs.
    pub fn paper() -> Self {
        Self {
            length: Length::Epochs(15),
            method: Method::SGD,
            rate: 1e-3,
            decay: 5e-4,
            fall: Fall::Steps {
                every: 5,
                factor: 0.1,
            },
            warm_up: 0,
            clip: None,
            mixed: 0.0,
            label_weight: 1.0,
            ..Self::default()
        }
    }

    /// That of Jha et al. (2020), as their code has it: Adam, what kernels cost, a tenth of the rate after
    /// three epochs that were no better. 20 epochs at 10⁻⁴ for colour images, 10 at 10⁻³ for grey ones.
    pub fn lightlayers(colour: bool) -> Self {
        let (epochs, rate) = match colour {
            true => (20, 1e-4),
            false => (10, 1e-3),
        };
        Self {
            length: Length::Epochs(epochs),
            method: Method::AdamW {
                betas: (0.9, 0.999),
                epsilon: 1e-7,
            },
            rate,
            fall: Fall::Plateau {
                patience: 3,
                factor: 0.1,
            },
            warm_up: 0,
            clip: None,
            // Keras' 10⁻⁴ is the weight of the squares, not of their halves.
            penalty: Penalty { l1: 0.0, l2: 2e-4 },
            ..Self::labels()
        }
    }

    /// What a network is trained from scratch with: labels, stochastic gradient descent from 0.1 down a
    /// cosine.
    pub fn scratch() -> Self {
        Self {
            length: Length::Epochs(30),
            method: Method::SGD,
            rate: 0.1,
            decay: 5e-4,
            clip: None,
            ..Self::labels()
        }
    }

    /// What a network without a teacher is trained with: labels only.
    pub fn labels() -> Self {
        Self {
            mixed: 0.0,
            label_weight: 1.0,
            ..Self::default()
        }
    }
}
