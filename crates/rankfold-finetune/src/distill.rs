//! A compressed network learns to answer as the original does.

use std::ops::ControlFlow;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rankfold_data::Loader;
use rankfold_graph::Graph;
use rankfold_torch::{Device, Layout, Phase, Trainable, ordered_inputs};
use tch::{Kind, Tensor};

use crate::blocks::shared_blocks;
use crate::error::{At, FinetuneError, Result};
use crate::optimizer::AdamW;
use crate::schedule::Schedule;
use crate::step::{Loss, Watched};

/// How a network is distilled.
///
/// The loss is T²·KL of softened class probabilities plus the relative squared errors of all blocks'
/// outputs. Batch-norm statistics stay as they are: on few inputs they are worth more than what would
/// be estimated anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Distillation {
    /// Steps in all.
    pub steps: usize,
    /// The highest learning rate of AdamW.
    pub rate: f64,
    /// Steps over which the rate rises.
    pub warm_up: usize,
    /// T, by which scores are divided.
    pub temperature: f64,
    /// Weight of the blocks' errors.
    pub block_weight: f64,
    /// Share of the inputs that are mixed with another one of their batch, by up to a half.
    pub mixed: f64,
    /// The longest gradient.
    pub clip: f64,
    /// Decides order, views and mixing.
    pub seed: u64,
    /// Where.
    pub device: Device,
}

impl Default for Distillation {
    fn default() -> Self {
        Self {
            steps: 600,
            rate: 2e-3,
            warm_up: 20,
            temperature: 3.0,
            block_weight: 100.0,
            mixed: 0.5,
            clip: 1.0,
            seed: 0,
            device: Device::Cpu,
        }
    }
}

impl Distillation {
    /// The defaults for a network that diverges so far from the original: what is badly damaged bears,
    /// and needs, larger steps.
    pub fn for_divergence(divergence: f64) -> Self {
        let rate = 4e-3 * (divergence.max(0.0) / 0.12).powf(0.3);
        Self {
            rate: rate.clamp(5e-4, 4e-3),
            ..Self::default()
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The loss of the outputs.
    pub outputs: f64,
    /// The loss of the blocks, without its weight.
    pub blocks: f64,
    /// The learning rate.
    pub rate: f64,
}

/// The student after learning from the teacher on the loader's inputs, whose labels are not read.
///
/// `progress` hears every step and may end the run.
pub fn distill(
    teacher: &Graph,
    student: &Graph,
    loader: &Loader,
    options: &Distillation,
    mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Graph> {
    let blocks = shared_blocks(teacher, student);
    let watched = |graph: &Graph| {
        let model = Trainable::new(graph, options.device, Layout::default())?;
        Watched::new(model, &blocks)
    };
    let (teacher, learner) = (watched(teacher)?, watched(student)?);
    let weights = learner.model.parameters().iter();
    let weights = weights.filter(|parameter| parameter.tensor.requires_grad());
    let mut optimizer = AdamW::new(weights.map(|parameter| parameter.tensor.shallow_clone()))?;
    let schedule = Schedule {
        peak: options.rate,
        warm_up: options.warm_up,
        steps: options.steps,
    };
    let images = loader.dataset().is_images();
    let (mut epoch, mut batches) = (0, loader.epoch(0, 0)?);
    for step in 0..options.steps {
        let batch = match batches.next() {
            Some(batch) => batch?,
            None => {
                epoch += 1;
                batches = loader.epoch(epoch, 0)?;
                batches
                    .next()
                    .ok_or(rankfold_torch::TorchError::Empty { what: "learn from" })??
            }
        };
        let mut inputs = ordered_inputs(learner.model.input_names(), &batch)?;
        for input in &mut inputs {
            *input = input.f_to(options.device.into()).at("copying a batch")?;
            if images {
                *input = mixed(input, options.mixed, options.seed, step)?;
            }
        }
        let wanted = teacher.answer(&inputs, Phase::Evaluate)?;
        let given = learner.answer(&inputs, Phase::TrainFrozenStatistics)?;
        let loss = Loss::of(&given, &wanted, options.temperature, options.block_weight)?;
        let rate = schedule.rate(step);
        let number = |tensor: &Tensor| tensor.f_double_value(&[]).at("reading the loss");
        if !number(&loss.total)?.is_finite() {
            return Err(FinetuneError::Diverged { step, rate });
        }
        optimizer.zero_gradients();
        loss.total.f_backward().at("taking gradients")?;
        optimizer.clip(options.clip)?;
        optimizer.step(rate)?;
        let now = Progress {
            step: step + 1,
            steps: options.steps,
            outputs: number(&loss.outputs)?,
            blocks: number(&loss.blocks)?,
            rate,
        };
        if progress(&now).is_break() {
            return Err(FinetuneError::Stopped);
        }
    }
    let mut learnt = student.clone();
    learner.model.export(&mut learnt)?;
    Ok(learnt)
}

/// λ·x + (1 − λ)·x' for a share of the inputs, λ between ½ and 1 and x' the one before in the batch.
fn mixed(inputs: &Tensor, share: f64, seed: u64, step: usize) -> Result<Tensor> {
    const DOING: &str = "mixing inputs";
    let count = inputs.size()[0] as usize;
    if share <= 0.0 || count < 2 {
        return Ok(inputs.shallow_clone());
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step as u64 + 1);
    let own: Vec<f32> = (0..count)
        .map(|_| {
            let (on, own): (f64, f32) = (rng.random(), rng.random());
            if on < share { 0.5 + 0.5 * own } else { 1.0 }
        })
        .collect();
    let mut shape = vec![1; inputs.dim()];
    shape[0] = count as i64;
    let own = Tensor::f_from_slice(&own)
        .and_then(|own| own.f_reshape(&shape))
        .and_then(|own| own.f_to_device(inputs.device()))
        .at(DOING)?
        .to_kind(Kind::Float);
    let other = inputs.f_roll([1], [0]).at(DOING)?;
    // x' + λ·(x − x')
    other.f_lerp_tensor(inputs, &own).at(DOING)
}
