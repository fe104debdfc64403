//! The loss of distillation.

use rankfold_torch::{Phase, Scores, Taps, Trainable, log_probabilities};
use tch::{Kind, Reduction, Tensor};

use crate::error::{At, FinetuneError, Result};

const STEP: &str = "computing the loss";

/// What a network answers: its outputs, and what its blocks give on the way.
pub(crate) struct Answers {
    outputs: Vec<Tensor>,
    blocks: Vec<Tensor>,
    scores: Scores,
}

/// A network and the ends of its blocks.
pub(crate) struct Watched {
    pub(crate) model: Trainable,
    taps: Taps,
}

impl Watched {
    pub(crate) fn new(model: Trainable, blocks: &[String]) -> Result<Self> {
        let taps = model.taps(blocks.iter().map(String::as_str))?;
        Ok(Self { model, taps })
    }

    pub(crate) fn answer(&self, inputs: &[Tensor], phase: Phase) -> Result<Answers> {
        let mut blocks = Vec::new();
        let outputs = self
            .model
            .forward_with(inputs, phase, &self.taps, |tapped| {
                blocks.extend(tapped.outputs.iter().map(Tensor::shallow_clone));
                Ok(())
            })?;
        Ok(Answers {
            outputs,
            blocks,
            scores: self.model.scores(),
        })
    }
}

/// How far a student's answers are from its teacher's.
pub(crate) struct Loss {
    /// What is minimised.
    pub(crate) total: Tensor,
    /// T²·KL of the first output's class probabilities; the relative squared error of outputs that are
    /// no class scores.
    pub(crate) outputs: Tensor,
    /// Σ ‖f_s − f_t‖² / ‖f_t‖² over the blocks.
    pub(crate) blocks: Tensor,
}

impl Loss {
    pub(crate) fn of(
        student: &Answers,
        teacher: &Answers,
        temperature: f64,
        block_weight: f64,
    ) -> Result<Self> {
        let pairs = student.outputs.iter().zip(&teacher.outputs);
        for (s, t) in pairs.clone() {
            if s.size() != t.size() {
                return Err(FinetuneError::OutputsDiffer {
                    teacher: t.size(),
                    student: s.size(),
                });
            }
        }
        let classified = student.outputs.first().is_some_and(|s| s.dim() == 2);
        let outputs = match (classified, student.outputs.first(), teacher.outputs.first()) {
            (true, Some(s), Some(t)) => {
                divergence((s, student.scores), (t, teacher.scores), temperature)?
            }
            _ => relative_errors(pairs)?,
        };
        let blocks = relative_errors(student.blocks.iter().zip(&teacher.blocks))?;
        let total = outputs
            .f_add(&blocks.f_mul_scalar(block_weight).at(STEP)?)
            .at(STEP)?;
        Ok(Self {
            total,
            outputs,
            blocks,
        })
    }
}

/// T²·KL(teacher ‖ student) at temperature T, the mean of the batch.
fn divergence(
    (student, student_kind): (&Tensor, Scores),
    (teacher, teacher_kind): (&Tensor, Scores),
    temperature: f64,
) -> Result<Tensor> {
    // Logarithms of probabilities are as good as logits: they differ by a constant for each input.
    let soft = |scores: &Tensor, kind: Scores| -> Result<Tensor> {
        let scores = match kind {
            Scores::Logits => scores.shallow_clone(),
            Scores::Probabilities | Scores::LogProbabilities => log_probabilities(scores, kind)?,
        };
        scores
            .f_div_scalar(temperature)
            .at(STEP)?
            .f_log_softmax(-1, Kind::Float)
            .at(STEP)
    };
    let (s, t) = (soft(student, student_kind)?, soft(teacher, teacher_kind)?);
    s.f_kl_div(&t, Reduction::Sum, true)
        .at(STEP)?
        .f_mul_scalar(temperature * temperature / student.size()[0] as f64)
        .at(STEP)
}

fn relative_errors<'a>(pairs: impl Iterator<Item = (&'a Tensor, &'a Tensor)>) -> Result<Tensor> {
    let mut sum = Tensor::from(0.0f32);
    for (s, t) in pairs {
        let error = || -> std::result::Result<Tensor, tch::TchError> {
            let missed = s.f_sub(t)?.f_square()?.f_sum(Kind::Float)?;
            let whole = t.f_square()?.f_sum(Kind::Float)?.f_clamp_min(1e-20)?;
            missed.f_div(&whole)
        };
        let error = error().at(STEP)?;
        sum = error.f_add(&sum.f_to(error.device()).at(STEP)?).at(STEP)?;
    }
    Ok(sum)
}
