//! Accuracy and loss on labelled data.

use std::ops::ControlFlow;
use std::time::Instant;

use rankfold_data::{Batch, DataError};
use tch::{Kind, Reduction, Tensor};

use crate::batch::{batch_inputs, classes, label_tensor, squared_errors, target_tensor};
use crate::error::{At, Result, TorchError};
use crate::executor::{Executor, Scores};

/// How good a model is on labelled data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// Share of images whose highest score is the label's, in percent.
    pub top1: f64,
    /// Standard error of `top1` from the number of images, √(p(1−p)/n), in percent.
    pub top1_se: f64,
    /// Share of images whose label is among the five highest scores, in percent.
    pub top5: f64,
    /// Standard error of `top5`, in percent.
    pub top5_se: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Images looked at.
    pub images: usize,
    /// Images per second, reading included.
    pub images_per_second: f64,
}

/// Sums over images from which metrics follow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Images seen.
    pub images: usize,
    /// Of these, label first.
    pub first: usize,
    /// Of these, label among the first five.
    pub first_five: usize,
    /// Sum of cross-entropies.
    pub loss: f64,
}

impl Tally {
    /// Adds a batch's scores.
    pub fn add(&mut self, scores: &Tensor, kind: Scores, labels: &Tensor) -> Result<()> {
        let step = "counting correct answers";
        let classes = classes(scores)?;
        let scores = scores.f_to_kind(Kind::Float).at(step)?;
        let labels = labels.f_to(scores.device()).at(step)?;
        let (_, best) = scores.f_topk(classes.min(5), 1, true, true).at(step)?;
        let hits = best
            .f_eq_tensor(&labels.f_unsqueeze(1).at(step)?)
            .at(step)?;
        let count = |hits: &Tensor| -> Result<usize> {
            let sum = hits.f_sum(Kind::Int64).at(step)?;
            Ok(sum.f_int64_value(&[]).at(step)? as usize)
        };
        let log = log_probabilities(&scores, kind)?;
        let loss = log
            .f_nll_loss(&labels, None::<&Tensor>, Reduction::Sum, -100)
            .at(step)?;
        self.first += count(&hits.f_narrow(1, 0, 1).at(step)?)?;
        self.first_five += count(&hits)?;
        self.loss += loss.f_double_value(&[]).at(step)?;
        self.images += labels.numel();
        Ok(())
    }

    /// The metrics after `seconds` of work.
    pub fn metrics(&self, seconds: f64) -> Metrics {
        let n = self.images as f64;
        let share = |hits: usize| hits as f64 / n;
        let error = |p: f64| (p * (1.0 - p) / n).sqrt();
        let (p1, p5) = (share(self.first), share(self.first_five));
        Metrics {
            top1: 100.0 * p1,
            top1_se: 100.0 * error(p1),
            top5: 100.0 * p5,
            top5_se: 100.0 * error(p5),
            loss: self.loss / n,
            images: self.images,
            images_per_second: n / seconds,
        }
    }
}

/// The logarithm of class probabilities, in doubles where the scores are, else in floats.
pub fn log_probabilities(scores: &Tensor, kind: Scores) -> Result<Tensor> {
    let step = "taking logarithms";
    match kind {
        Scores::Logits => {
            let double = scores.kind() == Kind::Double;
            let kind = if double { Kind::Double } else { Kind::Float };
            scores.f_log_softmax(-1, kind).at(step)
        }
        Scores::Probabilities => scores
            .f_clamp_min(f64::from(f32::MIN_POSITIVE))
            .at(step)?
            .f_log()
            .at(step),
        Scores::LogProbabilities => Ok(scores.shallow_clone()),
    }
}

/// Accuracy and loss of a classifier. `progress` hears the tally after every batch and may end it.
pub fn evaluate(
    executor: &Executor,
    batches: impl IntoIterator<Item = std::result::Result<Batch, DataError>>,
    mut progress: impl FnMut(&Tally) -> ControlFlow<()>,
) -> Result<Metrics> {
    let _guard = tch::no_grad_guard();
    let start = Instant::now();
    let mut tally = Tally::default();
    for batch in batches {
        let batch = batch?;
        let outputs = executor.run(&batch_inputs(executor, &batch)?)?;
        let scores = outputs
            .first()
            .ok_or(TorchError::NoScores { got: Vec::new() })?;
        let labels = label_tensor(&batch, classes(scores)?)?;
        tally.add(scores, executor.scores(), &labels)?;
        if progress(&tally).is_break() {
            return Err(TorchError::Stopped);
        }
    }
    if tally.images == 0 {
        return Err(TorchError::Empty { what: "evaluate" });
    }
    Ok(tally.metrics(start.elapsed().as_secs_f64()))
}

/// The root of the mean squared error of a model that gives numbers. `progress` hears how many inputs
/// were seen after every batch and may end it.
pub fn root_mean_square_error(
    executor: &Executor,
    batches: impl IntoIterator<Item = std::result::Result<Batch, DataError>>,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let (mut sum, mut numbers, mut inputs) = (0.0, 0, 0);
    for batch in batches {
        let batch = batch?;
        let given = batch_inputs(executor, &batch)?;
        let outputs = executor.run(&given)?;
        let output = outputs
            .first()
            .ok_or(TorchError::Empty { what: "compare" })?;
        let squares = squared_errors(output, &target_tensor(&batch, &given)?)?;
        let total = squares.f_sum(Kind::Double).at("adding errors")?;
        sum += total.f_double_value(&[]).at("adding errors")?;
        numbers += squares.numel();
        inputs += batch.len();
        if progress(inputs).is_break() {
            return Err(TorchError::Stopped);
        }
    }
    match numbers {
        0 => Err(TorchError::Empty { what: "evaluate" }),
        _ => Ok((sum / numbers as f64).sqrt()),
    }
}
