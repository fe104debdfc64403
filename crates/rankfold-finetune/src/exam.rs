//! What a network is judged by on inputs that it does not learn from.

use rankfold_data::Loader;
use rankfold_torch::{
    Divergence, Phase, Tally, Trainable, label_tensor, ordered_inputs, target_tensor,
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::{At, Result};
use crate::loss::{Answers, Watched, relative_errors};
use crate::recipe::Aim;

/// How a network did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Inputs seen.
    pub inputs: usize,
    /// Of these, how many got their label; none without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<usize>,
    /// The mean cross-entropy of the labels; the mean squared error, or its root, of a network that
    /// gives numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The mean KL divergence from the teacher; the relative squared error where outputs are no class
    /// scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    /// Share of inputs that the teacher answers alike, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

impl Mark {
    /// Whether this is better: closer to the teacher, or without one more labels right, or as many and
    /// a smaller loss.
    pub fn beats(&self, other: &Self) -> bool {
        match (self.divergence, other.divergence) {
            (Some(own), Some(other)) => own < other,
            _ => {
                let loss = |mark: &Self| mark.loss.unwrap_or(f64::INFINITY);
                self.correct > other.correct
                    || self.correct == other.correct && loss(self) < loss(other)
            }
        }
    }

    /// What falls while a network gets better: the divergence from the teacher or, without one, the loss.
    pub fn reading(&self) -> Option<f64> {
        self.divergence.or(self.loss)
    }

    /// Share of right answers and its standard error, in percent.
    pub fn accuracy(&self) -> Option<(f64, f64)> {
        let share = self.correct? as f64 / self.inputs.max(1) as f64;
        let error = (share * (1.0 - share) / self.inputs.max(1) as f64).sqrt();
        Some((100.0 * share, 100.0 * error))
    }
}

/// Inputs, and what the teacher answers.
#[derive(Debug)]
pub(crate) struct Exam<'a> {
    loader: &'a Loader,
    /// The teacher's logarithms of class probabilities, or its outputs, batch by batch.
    expected: Option<Vec<Vec<Tensor>>>,
    aim: Aim,
}

impl<'a> Exam<'a> {
    pub(crate) fn new(loader: &'a Loader, teacher: Option<&Watched>, aim: Aim) -> Result<Self> {
        let expected = |teacher: &Watched| {
            let batches = loader.epoch(0, 0)?;
            batches
                .map(|batch| {
                    let inputs = ordered_inputs(teacher.model.input_names(), &batch?)?;
                    comparable(&answer(&teacher.model, &inputs, aim)?)
                })
                .collect()
        };
        Ok(Self {
            loader,
            aim,
            expected: teacher.map(expected).transpose()?,
        })
    }

    pub(crate) fn mark(&self, student: &Trainable) -> Result<Mark> {
        let mut tally = Tally::default();
        let mut divergence = Divergence::default();
        let mut missed = Missed::default();
        let (mut errors, mut inputs, mut scored) = (0.0, 0, true);
        for (place, batch) in self.loader.epoch(0, 0)?.enumerate() {
            let batch = batch?;
            inputs += batch.len();
            let given = ordered_inputs(student.input_names(), &batch)?;
            let answers = answer(student, &given, self.aim)?;
            if self.aim != Aim::Classes {
                missed.add(&answers, &target_tensor(&batch, &given)?)?;
            }
            if let (Some(scores), Some(_)) = (answers.class_scores(), &batch.labels) {
                let labels = label_tensor(&batch, scores.size()[1])?;
                tally.add(scores, student.scores(), &labels)?;
            }
            let Some(expected) = self.expected.as_ref().and_then(|all| all.get(place)) else {
                continue;
            };
            let given = comparable(&answers)?;
            scored = answers.class_scores().is_some();
            match (scored, expected.first(), given.first()) {
                (true, Some(p), Some(q)) => divergence.add(p, q)?,
                _ => {
                    let error = relative_errors(given.iter().zip(expected))?;
                    let error = error.f_double_value(&[]).at("judging outputs")?;
                    errors += error * batch.len() as f64;
                }
            }
        }
        let labelled = tally.images > 0;
        let taught = self.expected.is_some();
        Ok(Mark {
            inputs,
            correct: labelled.then_some(tally.first),
            loss: match labelled {
                true => Some(tally.loss / tally.images as f64),
                false => missed.loss(self.aim),
            },
            divergence: taught.then(|| match scored {
                true => divergence.mean(),
                false => errors / inputs.max(1) as f64,
            }),
            agreement: (taught && scored).then(|| divergence.agreement()),
        })
    }
}

/// What a network that gives numbers misses its targets by.
#[derive(Debug, Default)]
struct Missed {
    squares: f64,
    numbers: usize,
}

impl Missed {
    fn add(&mut self, answers: &Answers, target: &Tensor) -> Result<()> {
        let squares = answers.squared_errors(target)?;
        let sum = squares.f_sum(Kind::Double).at("judging outputs")?;
        self.squares += sum.f_double_value(&[]).at("judging outputs")?;
        self.numbers += squares.numel();
        Ok(())
    }

    fn loss(&self, aim: Aim) -> Option<f64> {
        let mean = self.squares / self.numbers.max(1) as f64;
        match aim {
            Aim::Classes => None,
            Aim::MeanSquare => Some(mean),
            Aim::RootMeanSquare => Some(mean.sqrt()),
        }
    }
}

fn answer(model: &Trainable, inputs: &[Tensor], aim: Aim) -> Result<Answers> {
    Answers::plain(model, inputs, Phase::Evaluate, aim)
}

/// Logarithms of class probabilities, or the outputs as they are.
fn comparable(answers: &Answers) -> Result<Vec<Tensor>> {
    Ok(match answers.class_logarithms()? {
        Some(logarithms) => vec![logarithms],
        None => answers.outputs.iter().map(Tensor::shallow_clone).collect(),
    })
}
