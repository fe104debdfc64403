//! The options of training, and the recipe that they make.

use std::time::Duration;

use clap::{Args, ValueEnum};
use rankfold_data::Split;
use rankfold_finetune::{Aim, Freeze, Length, Method, Recipe};
use rankfold_graph::{DType, Graph};
use rankfold_torch::Device;

use super::parse::{AugmentArg, FallArg};
use crate::failure::{Failure, Outcome};

/// How a network is trained, where that is not as the recipe says.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Training")]
pub(crate) struct TrainingArgs {
    /// Where all else comes from
    #[arg(long, value_enum, default_value = "default")]
    pub(crate) recipe: RecipeArg,

    /// Passes over the data, in every stage; `prune` takes 0 for no training
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,

    /// Inputs of a step
    #[arg(long, default_value = "128", value_name = "N")]
    pub(super) batch: usize,

    /// sgd or adamw
    #[arg(long, value_enum)]
    optimizer: Option<OptimizerArg>,

    /// The highest learning rate
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,

    /// What the rate of factors is multiplied by
    #[arg(long, value_name = "X")]
    factor_rate: Option<f64>,

    /// How the rate falls: cosine, constant, steps:EPOCHS:FACTOR, or plateau:EPOCHS:FACTOR, after so many that
    /// were no better on what is held back
    #[arg(long, value_name = "HOW")]
    schedule: Option<FallArg>,

    /// Steps over which the rate rises
    #[arg(long, value_name = "STEPS")]
    warm_up: Option<usize>,

    /// Share of the last step that SGD takes again
    #[arg(long, value_name = "SHARE")]
    momentum: Option<f64>,

    /// Weight decay of kernels
    #[arg(long, value_name = "DECAY")]
    decay: Option<f64>,

    /// Weight of the magnitudes of all kernels in the loss
    #[arg(long, value_name = "WEIGHT")]
    l1: Option<f64>,

    /// Weight of half the squares of all kernels in the loss
    #[arg(long, value_name = "WEIGHT")]
    l2: Option<f64>,

    /// Weights that are zero when training starts, as `prune --connections` leaves them, stay zero
    #[arg(long)]
    keep_zeros: bool,

    /// What outputs are compared with: classes (labels), or numbers by mse or its root rmse: the data's
    /// targets or, where they have none, the inputs themselves
    #[arg(long, value_enum, default_value = "classes", value_name = "WHAT")]
    loss: LossArg,

    /// The longest gradient; 0 for any
    #[arg(long, value_name = "LENGTH")]
    clip: Option<f64>,

    /// Share of a label that is spread over all classes
    #[arg(long, value_name = "SHARE")]
    smoothing: Option<f64>,

    /// Share of the inputs that are mixed with another
    #[arg(long, value_name = "SHARE")]
    mix: Option<f64>,

    /// Weight of the labels; with a teacher they are not read unless this is given
    #[arg(long, value_name = "WEIGHT")]
    label_weight: Option<f64>,

    /// What scores are divided by before they are compared with the teacher's
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,

    /// Weight of the errors of all blocks' outputs against the teacher's; 0 for outputs alone
    #[arg(long, value_name = "WEIGHT")]
    block_weight: Option<f64>,

    /// Batch-norm statistics: those of the batch, or frozen as they are
    #[arg(long, value_enum)]
    statistics: Option<StatisticsArg>,

    /// The type that is computed in; weights stay in f32
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionArg,

    /// Layers that stay as they are
    #[arg(long, value_enum, default_value = "none")]
    pub(super) freeze: FreezeArg,

    /// Random views of images: usual, none, or a list of flip, crop, resized-crop, brightness (by up to a
    /// quarter) and contrast (from a fifth to nine fifths)
    #[arg(long, value_name = "LIST")]
    pub(super) augment: Option<AugmentArg>,

    /// Part of the data to learn from
    #[arg(long, default_value = "train", value_name = "SPLIT")]
    pub(super) train_split: Split,

    /// Part of the data that the best epoch is chosen on; some of what is learnt from by default
    #[arg(long, value_name = "SPLIT")]
    pub(super) choose: Option<Split>,

    /// Write a checkpoint at least so often, beside one at every epoch
    #[arg(long, default_value = "5", value_name = "MINUTES")]
    keep_every: f64,

    /// Forget the checkpoints of an earlier run
    #[arg(long)]
    pub(crate) restart: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecipeArg {
    /// AdamW along a cosine; SGD where `train` starts from nothing
    Default,
    /// Astrid and Lee (2018): labels, SGD, steps
    Paper,
    /// Jha et al. (2020): labels, Adam, plateaus
    Lightlayers,
}

impl RecipeArg {
    /// The recipe, for a network with such inputs; the default one is given.
    pub(crate) fn of(self, default: Recipe, graph: &Graph) -> Recipe {
        match self {
            Self::Default => default,
            Self::Paper => Recipe::paper(),
            Self::Lightlayers => {
                let input = graph.inputs().first();
                let shape = input.and_then(|&input| graph.fact(input).shape.as_deref());
                let channels = shape.and_then(|shape| shape.get(1)?.fixed());
                Recipe::lightlayers(channels != Some(1))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OptimizerArg {
    /// Stochastic gradient descent with momentum
    Sgd,
    /// Adam with decoupled weight decay
    Adamw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LossArg {
    /// Cross-entropy of the labels
    Classes,
    /// The mean squared error
    Mse,
    /// The root of the mean squared error of a batch
    Rmse,
}

impl From<LossArg> for Aim {
    fn from(arg: LossArg) -> Self {
        match arg {
            LossArg::Classes => Self::Classes,
            LossArg::Mse => Self::MeanSquare,
            LossArg::Rmse => Self::RootMeanSquare,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StatisticsArg {
    /// Those of the batch; running ones follow
    Batch,
    /// The running ones, which stay
    Frozen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    /// bf16 on GPUs and on processors that multiply it (AVX-512 BF16), else f32
    Auto,
    /// 32-bit floats
    F32,
    /// The upper half of 32-bit floats
    Bf16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FreezeArg {
    /// All layers learn
    None,
    /// Those that were decomposed before stay
    Decomposed,
    /// All but those just decomposed stay
    Others,
}

impl From<FreezeArg> for Freeze {
    fn from(arg: FreezeArg) -> Self {
        match arg {
            FreezeArg::None => Self::Nothing,
            FreezeArg::Decomposed => Self::Decomposed,
            FreezeArg::Others => Self::Others,
        }
    }
}

impl TrainingArgs {
    /// The recipe, from `base` where nothing else was asked for.
    pub(crate) fn recipe(&self, base: Recipe, seed: u64, device: Device) -> Outcome<Recipe> {
        let mut recipe = base;
        recipe.seed = seed;
        recipe.device = device;
        recipe.dtype = match self.precision {
            PrecisionArg::Bf16 => DType::BF16,
            PrecisionArg::Auto if device.is_fast_in_bf16() => DType::BF16,
            PrecisionArg::F32 | PrecisionArg::Auto => DType::F32,
        };
        if let Some(epochs) = self.epochs {
            recipe.length = Length::Epochs(epochs);
        }
        match self.optimizer {
            Some(OptimizerArg::Sgd) => recipe.method = Method::SGD,
            Some(OptimizerArg::Adamw) => recipe.method = Method::ADAMW,
            None => {}
        }
        if let Some(given) = self.momentum {
            match &mut recipe.method {
                Method::Sgd { momentum } => *momentum = share("--momentum", given)?,
                Method::AdamW { .. } => {
                    return Err(Failure::usage("--momentum is for SGD, and this is AdamW")
                        .hint("give --optimizer sgd too"));
                }
            }
        }
        recipe.aim = self.loss.into();
        recipe.keep_zeros = self.keep_zeros;
        positive("--l1", self.l1, &mut recipe.penalty.l1)?;
        positive("--l2", self.l2, &mut recipe.penalty.l2)?;
        positive("--rate", self.rate, &mut recipe.rate)?;
        positive("--factor-rate", self.factor_rate, &mut recipe.factor_rate)?;
        positive("--decay", self.decay, &mut recipe.decay)?;
        positive(
            "--label-weight",
            self.label_weight,
            &mut recipe.label_weight,
        )?;
        let teaching = &mut recipe.teaching;
        positive("--temperature", self.temperature, &mut teaching.temperature)?;
        positive(
            "--block-weight",
            self.block_weight,
            &mut teaching.block_weight,
        )?;
        if recipe.rate == 0.0 || recipe.teaching.temperature == 0.0 {
            return Err(Failure::usage(
                "expected a rate and a temperature above 0, found 0",
            ));
        }
        if let Some(clip) = self.clip {
            recipe.clip = Some(at_least_zero("--clip", clip)?).filter(|&clip| clip > 0.0);
        }
        if let Some(FallArg(fall)) = self.schedule {
            recipe.fall = fall;
        }
        recipe.warm_up = self.warm_up.unwrap_or(recipe.warm_up);
        if let Some(smoothing) = self.smoothing {
            recipe.smoothing = share("--smoothing", smoothing)?;
        }
        if let Some(mix) = self.mix {
            recipe.mixed = share("--mix", mix)?;
        }
        if let Some(statistics) = self.statistics {
            recipe.frozen_statistics = statistics == StatisticsArg::Frozen;
        }
        if recipe.length == Length::Epochs(0) || self.batch == 0 {
            return Err(Failure::usage(
                "expected at least one epoch and one input a step, found 0",
            ));
        }
        Ok(recipe)
    }

    /// True where there are to be no epochs at all.
    pub(crate) fn is_nothing(&self) -> bool {
        self.epochs == Some(0)
    }

    /// True where epochs were asked for.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.epochs.is_some_and(|epochs| epochs > 0)
    }

    /// What outputs are compared with.
    pub(crate) fn aim(&self) -> Aim {
        self.loss.into()
    }

    pub(crate) fn freeze(&self) -> Freeze {
        self.freeze.into()
    }

    pub(super) fn keep_every(&self) -> Duration {
        Duration::from_secs_f64((60.0 * self.keep_every).clamp(0.0, 1e9))
    }
}

fn positive(option: &str, given: Option<f64>, own: &mut f64) -> Outcome {
    if let Some(given) = given {
        *own = at_least_zero(option, given)?;
    }
    Ok(())
}

pub(crate) fn at_least_zero(option: &str, given: f64) -> Outcome<f64> {
    match given.is_finite() && given >= 0.0 {
        true => Ok(given),
        false => Err(Failure::usage(format!(
            "expected {option} to be at least 0, found {given}"
        ))),
    }
}

fn share(option: &str, given: f64) -> Outcome<f64> {
    match (0.0..1.0).contains(&given) || given == 1.0 {
        true => Ok(given),
        false => Err(Failure::usage(format!(
            "expected {option} to be from 0 to 1, found {given}"
        ))),
    }
}
