//! What training minimises.

use rankfold_torch::{Phase, Scores, Taps, Trainable, log_probabilities, squared_errors};
use tch::{Kind, Reduction, Tensor};

use crate::error::{At, FinetuneError, Result};
use crate::mix::Mixture;
use crate::recipe::{Aim, Penalty, Recipe, Teaching};

const STEP: &str = "computing the loss";

/// What a network answers: its outputs, and what its blocks give on the way.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) outputs: Vec<Tensor>,
    blocks: Vec<Tensor>,
    scores: Scores,
    aim: Aim,
}

/// A network and the ends of its blocks.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) model: Trainable,
    taps: Taps,
    aim: Aim,
}

impl Watched {
    pub(crate) fn new(model: Trainable, blocks: &[String], aim: Aim) -> Result<Self> {
        let taps = model.taps(blocks.iter().map(String::as_str))?;
        Ok(Self { model, taps, aim })
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
            aim: self.aim,
        })
    }
}

impl Answers {
    /// Those of a model whose blocks nobody looks at.
    pub(crate) fn plain(
        model: &Trainable,
        inputs: &[Tensor],
        phase: Phase,
        aim: Aim,
    ) -> Result<Self> {
        Ok(Self {
            outputs: model.forward(inputs, phase)?,
            blocks: Vec::new(),
            scores: model.scores(),
            aim,
        })
    }

    /// The first output, where it holds class scores.
    pub(crate) fn class_scores(&self) -> Option<&Tensor> {
        let first = self.outputs.first();
        first.filter(|scores| self.aim == Aim::Classes && scores.dim() == 2)
    }

    /// The squares of what the first output misses the target by.
    pub(crate) fn squared_errors(&self, target: &Tensor) -> Result<Tensor> {
        let empty = rankfold_torch::TorchError::Empty { what: "compare" };
        Ok(squared_errors(self.outputs.first().ok_or(empty)?, target)?)
    }

    /// Logarithms of class probabilities, where the first output holds class scores.
    pub(crate) fn class_logarithms(&self) -> Result<Option<Tensor>> {
        let scores = self.class_scores();
        let logarithms = scores.map(|scores| log_probabilities(scores, self.scores));
        Ok(logarithms.transpose()?)
    }
}

/// What the data tell of a batch.
pub(crate) enum Told<'a> {
    /// Classes, mixed as the inputs were.
    Labels(&'a Tensor, &'a Mixture),
    /// Numbers.
    Target(Tensor),
}

/// The parts of the loss of a batch.
#[derive(Debug)]
pub(crate) struct Loss {
    /// What is minimised.
    pub(crate) total: Tensor,
    /// Of this, the part of the outputs alone.
    pub(crate) outputs: Tensor,
}

impl Loss {
    /// The loss of a student's answers; what the data tell and `teacher` count where they are there.
    pub(crate) fn of(
        student: &Answers,
        teacher: Option<&Answers>,
        told: Option<Told<'_>>,
        recipe: &Recipe,
    ) -> Result<Self> {
        let mut outputs = Tensor::from(0.0f32);
        if let Some(told) = told {
            let error = match told {
                Told::Labels(labels, mixture) => {
                    cross_entropy(student, labels, mixture, recipe.smoothing)?
                }
                Told::Target(target) => missed_target(student, &target, recipe.aim)?,
            };
            outputs = error.f_mul_scalar(recipe.label_weight).at(STEP)?;
        }
        let Some(teacher) = teacher else {
            let total = outputs.shallow_clone();
            return Ok(Self { total, outputs });
        };
        let Teaching {
            temperature,
            block_weight,
        } = recipe.teaching;
        let missed = missed(student, teacher, temperature)?;
        let outputs = missed.f_add(&moved(&outputs, &missed)?).at(STEP)?;
        let mut total = outputs.shallow_clone();
        if block_weight > 0.0 && !student.blocks.is_empty() {
            let blocks = relative_errors(student.blocks.iter().zip(&teacher.blocks))?;
            total = total
                .f_add(&blocks.f_mul_scalar(block_weight).at(STEP)?)
                .at(STEP)?;
        }
        Ok(Self { total, outputs })
    }
}

/// The mean squared error of a batch, or its root.
fn missed_target(student: &Answers, target: &Tensor, aim: Aim) -> Result<Tensor> {
    let mean = student
        .squared_errors(target)?
        .f_mean(Kind::Float)
        .at(STEP)?;
    match aim {
        // The root has no gradient at 0.
        Aim::RootMeanSquare => mean.f_clamp_min(1e-20).at(STEP)?.f_sqrt().at(STEP),
        Aim::MeanSquare | Aim::Classes => Ok(mean),
    }
}

/// What kernels cost by themselves.
pub(crate) fn penalty<'a>(
    kernels: impl Iterator<Item = &'a Tensor>,
    penalty: Penalty,
) -> Result<Tensor> {
    let mut sum = Tensor::from(0.0f32);
    for kernel in kernels {
        let cost = || -> std::result::Result<Tensor, tch::TchError> {
            let magnitudes = kernel.f_abs()?.f_sum(Kind::Float)?;
            let squares = kernel.f_square()?.f_sum(Kind::Float)?;
            magnitudes
                .f_mul_scalar(penalty.l1)?
                .f_add(&squares.f_mul_scalar(penalty.l2 / 2.0)?)
        };
        let cost = cost().at(STEP)?;
        sum = cost.f_add(&moved(&sum, &cost)?).at(STEP)?;
    }
    Ok(sum)
}

/// How far a student's outputs are from its teacher's: T²·KL of class probabilities, or the relative
/// squared error of what is no class scores.
fn missed(student: &Answers, teacher: &Answers, temperature: f64) -> Result<Tensor> {
    let pairs = student.outputs.iter().zip(&teacher.outputs);
    for (s, t) in pairs.clone() {
        if s.size() != t.size() {
            return Err(FinetuneError::OutputsDiffer {
                teacher: t.size(),
                student: s.size(),
            });
        }
    }
    match (student.class_scores(), teacher.class_scores()) {
        (Some(s), Some(t)) => divergence((s, student.scores), (t, teacher.scores), temperature),
        _ => relative_errors(pairs),
    }
}

/// The mean cross-entropy of labels, mixed as the inputs were, with a share spread over all classes.
fn cross_entropy(
    student: &Answers,
    labels: &Tensor,
    mixture: &Mixture,
    smoothing: f64,
) -> Result<Tensor> {
    let no_scores = || {
        let got = student.outputs.first().map_or_else(Vec::new, Tensor::size);
        rankfold_torch::TorchError::NoScores { got }
    };
    let log = student.class_logarithms()?.ok_or_else(no_scores)?;
    let of = |labels: &Tensor| -> std::result::Result<Tensor, tch::TchError> {
        log.f_nll_loss(labels, None::<&Tensor>, Reduction::None, -100)
    };
    let mut each = of(labels).at(STEP)?;
    if let Some(own) = mixture.shares() {
        let other = of(&mixture.partners(labels)?).at(STEP)?;
        // e' + λ·(e − e')
        each = other.f_lerp_tensor(&each, own).at(STEP)?;
    }
    let mean = each.f_mean(Kind::Float).at(STEP)?;
    if smoothing <= 0.0 {
        return Ok(mean);
    }
    let everywhere = log.f_mean(Kind::Float).at(STEP)?;
    mean.f_mul_scalar(1.0 - smoothing)
        .and_then(|mean| mean.f_sub(&everywhere.f_mul_scalar(smoothing)?))
        .at(STEP)
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

/// Σ ‖s − t‖² / ‖t‖² over the pairs.
pub(crate) fn relative_errors<'a>(
    pairs: impl Iterator<Item = (&'a Tensor, &'a Tensor)>,
) -> Result<Tensor> {
    let mut sum = Tensor::from(0.0f32);
    for (s, t) in pairs {
        let error = || -> std::result::Result<Tensor, tch::TchError> {
            let t = t.f_to_kind(s.kind())?;
            let missed = squared_norm(&s.f_sub(&t)?)?;
            let whole = t.f_norm_scalaropt_dtype(2, Kind::Float)?;
            missed.f_div(&whole.f_square()?.f_clamp_min(1e-20)?)
        };
        let error = error().at(STEP)?;
        sum = error.f_add(&moved(&sum, &error)?).at(STEP)?;
    }
    Ok(sum)
}

/// ‖d‖² in f32, whose gradient stays in the type and the layout of d.
///
/// A gradient that is converted, and that of libtorch's own `mse_loss`, loses channels-last, and all that
/// is computed from it is then several times as slow.
fn squared_norm(d: &Tensor) -> std::result::Result<Tensor, tch::TchError> {
    let fixed = d.f_detach()?;
    let exact = fixed.f_norm_scalaropt_dtype(2, Kind::Float)?.f_square()?;
    // Twice Σ d·d with one d held fast has the gradient of ‖d‖², which is 2·d.
    let slope = d.f_mul(&fixed)?.f_sum(d.kind())?;
    let slope = slope.f_to_kind(Kind::Float)?.f_mul_scalar(2.0)?;
    exact.f_add(&slope.f_sub(&slope.f_detach()?)?)
}

/// A tensor on the device of another.
fn moved(tensor: &Tensor, other: &Tensor) -> Result<Tensor> {
    tensor.f_to(other.device()).at(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(scores: &[f32], classes: i64) -> Answers {
        Answers {
            outputs: vec![Tensor::from_slice(scores).reshape([-1, classes])],
            blocks: Vec::new(),
            scores: Scores::Logits,
            aim: Aim::Classes,
        }
    }

    fn number(tensor: &Tensor) -> f64 {
        tensor.double_value(&[])
    }

    #[test]
    fn labels_are_mixed_and_smoothed_as_the_formula_says() {
        let student = answers(&[2.0, 0.0, -1.0, 0.5, 0.5, 3.0], 3);
        let labels = Tensor::from_slice(&[0i64, 1]);
        let log = student.class_logarithms().unwrap().unwrap();
        let of = |row: i64, class: i64| -log.double_value(&[row, class]);
        let plain = cross_entropy(&student, &labels, &Mixture::none(), 0.0).unwrap();
        assert!((number(&plain) - (of(0, 0) + of(1, 1)) / 2.0).abs() < 1e-6);
        let mixture = Mixture::of_shares(&[0.75, 1.0]);
        let mixed = cross_entropy(&student, &labels, &mixture, 0.0).unwrap();
        // The partner of the first is the last.
        let expected = (0.75 * of(0, 0) + 0.25 * of(0, 1) + of(1, 1)) / 2.0;
        assert!((number(&mixed) - expected).abs() < 1e-6);
        let smooth = cross_entropy(&student, &labels, &Mixture::none(), 0.3).unwrap();
        let every: f64 = (0..2)
            .flat_map(|r| (0..3).map(move |c| (r, c)))
            .map(|(r, c)| of(r, c))
            .sum();
        let expected = 0.7 * number(&plain) + 0.3 * every / 6.0;
        assert!((number(&smooth) - expected).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_of_a_squared_norm_is_twice_the_vector_in_its_type_and_layout() {
        let drawn = Tensor::arange(2 * 3 * 4 * 5, (Kind::Float, tch::Device::Cpu)).sin();
        for kind in [Kind::Float, Kind::BFloat16] {
            let images = drawn.reshape([2, 4, 5, 3]).to_kind(kind);
            let d = images
                .permute([0, 3, 1, 2])
                .detach()
                .set_requires_grad(true);
            let norm = squared_norm(&d).unwrap();
            let own = number(&d.to_kind(Kind::Float).square().sum(Kind::Float));
            assert!((number(&norm) - own).abs() < 1e-4 * own, "{kind:?}");
            norm.backward();
            let gradient = d.grad();
            assert_eq!((gradient.kind(), gradient.stride()), (kind, d.stride()));
            assert_eq!(number(&(&gradient - &d * 2.0).abs().max()), 0.0);
        }
    }

    #[test]
    fn the_same_answers_are_no_loss_and_others_are() {
        let recipe = Recipe::default();
        let (a, b) = (answers(&[2.0, 0.0], 2), answers(&[0.0, 1.0], 2));
        let same = Loss::of(&a, Some(&a), None, &recipe).unwrap();
        assert!(number(&same.total).abs() < 1e-6);
        let other = Loss::of(&a, Some(&b), None, &recipe).unwrap();
        let p = |x: f64| 1.0 / (1.0 + (-x / 3.0).exp());
        let (t, s) = (p(-1.0), p(2.0));
        let kl = t * (t / s).ln() + (1.0 - t) * ((1.0 - t) / (1.0 - s)).ln();
        assert!((number(&other.total) - 9.0 * kl).abs() < 1e-5);
        let wide = answers(&[0.0, 1.0, 2.0], 3);
        let refused = Loss::of(&a, Some(&wide), None, &recipe);
        assert!(matches!(refused, Err(FinetuneError::OutputsDiffer { .. })));
    }

    #[test]
    fn numbers_are_compared_with_their_targets() {
        let student = Answers {
            aim: Aim::MeanSquare,
            ..answers(&[1.0, 2.0, 0.0, 0.0], 2)
        };
        let target = Tensor::from_slice(&[0.0f32, 2.0, 2.0, 2.0]).reshape([2, 2]);
        let of = |aim| number(&missed_target(&student, &target, aim).unwrap());
        assert!((of(Aim::MeanSquare) - 2.25).abs() < 1e-6);
        assert!((of(Aim::RootMeanSquare) - 1.5).abs() < 1e-6);
        assert!(student.class_scores().is_none());
        let narrow = missed_target(&student, &Tensor::from_slice(&[1.0f32]), Aim::MeanSquare);
        let expected = "expected outputs of the shape of their targets, [1], found [2, 2]";
        assert_eq!(narrow.unwrap_err().to_string(), expected);
    }

    #[test]
    fn weights_cost_their_magnitudes_and_half_their_squares() {
        let kernels = [Tensor::from_slice(&[1.0f32, -2.0]), Tensor::from(3.0f32)];
        let cost = penalty(kernels.iter(), Penalty { l1: 0.5, l2: 0.1 }).unwrap();
        assert!((number(&cost) - (0.5 * 6.0 + 0.05 * 14.0)).abs() < 1e-6);
    }
}
