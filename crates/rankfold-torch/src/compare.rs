//! Whether two models agree: value by value and at the outputs.

use std::collections::HashMap;
use std::ops::ControlFlow;

use rankfold_data::{Batch, DataError};
use tch::{Kind, Tensor};

use crate::batch::batch_inputs;
use crate::error::{At, Result, TorchError};
use crate::evaluate::log_probabilities;
use crate::executor::Executor;

/// How much a value of one model differs from that of the same name in another.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The name of the node that makes the value in the first model; an output's own name.
    pub name: String,
    /// ‖a − b‖ / ‖a‖.
    pub relative_error: f64,
    /// ⟨a, b⟩ / (‖a‖ ‖b‖).
    pub cosine: f64,
}

/// How much a second model differs from a first.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Values that both models have, in order, outputs left out.
    pub values: Vec<Difference>,
    /// How many values have the same name in both and not the same shape.
    pub unlike: usize,
    /// The outputs.
    pub outputs: Vec<Difference>,
    /// Mean Kullback–Leibler divergence of the second model's class probabilities from the first's;
    /// none where the first output is no table of class scores.
    pub kl: Option<f64>,
    /// Standard error of `kl`.
    pub kl_se: Option<f64>,
    /// Share of inputs on which both give the same class the highest score, in percent.
    pub agreement: Option<f64>,
    /// Inputs looked at.
    pub images: usize,
}

#[derive(Default, Clone)]
struct Sums {
    aa: f64,
    bb: f64,
    ab: f64,
    dd: f64,
    pairs: usize,
}

impl Sums {
    fn add(&mut self, a: &Tensor, b: &Tensor) -> Result<()> {
        let step = "comparing values";
        let flat = |t: &Tensor| t.f_contiguous()?.f_to_kind(Kind::Float)?.f_reshape([-1]);
        let (a, b) = (flat(a).at(step)?, flat(b).at(step)?);
        let d = a.f_sub(&b).at(step)?;
        let dot = |x: &Tensor, y: &Tensor| x.f_dot(y)?.f_double_value(&[]);
        self.aa += dot(&a, &a).at(step)?;
        self.bb += dot(&b, &b).at(step)?;
        self.ab += dot(&a, &b).at(step)?;
        self.dd += dot(&d, &d).at(step)?;
        self.pairs += 1;
        Ok(())
    }

    fn difference(&self, name: &str) -> Difference {
        let nothing = self.aa == 0.0 && self.bb == 0.0;
        Difference {
            name: name.to_owned(),
            relative_error: if nothing {
                0.0
            } else {
                (self.dd / self.aa).sqrt()
            },
            cosine: if nothing {
                1.0
            } else {
                self.ab / (self.aa * self.bb).sqrt()
            },
        }
    }
}

/// Running mean and variance of divergences, and the count of equal answers.
#[derive(Debug, Default)]
pub struct Divergence {
    sum: f64,
    squares: f64,
    equal: usize,
    images: usize,
}

impl Divergence {
    /// Adds the divergences of a batch, from logarithms of probabilities.
    pub fn add(&mut self, p: &Tensor, q: &Tensor) -> Result<()> {
        let step = "taking divergences";
        let each = p.f_exp().at(step)?.f_mul(&p.f_sub(q).at(step)?).at(step)?;
        let each = each.f_sum_dim_intlist(-1, false, Kind::Double).at(step)?;
        self.sum += each
            .f_sum(Kind::Double)
            .at(step)?
            .f_double_value(&[])
            .at(step)?;
        self.squares += each.f_dot(&each).at(step)?.f_double_value(&[]).at(step)?;
        let best = |t: &Tensor| t.f_argmax(-1, false);
        let equal = best(p).at(step)?.f_eq_tensor(&best(q).at(step)?).at(step)?;
        self.equal += equal
            .f_sum(Kind::Int64)
            .at(step)?
            .f_int64_value(&[])
            .at(step)? as usize;
        self.images += each.numel();
        Ok(())
    }

    pub(crate) fn images(&self) -> usize {
        self.images
    }

    /// The mean divergence.
    pub fn mean(&self) -> f64 {
        self.sum / self.images as f64
    }

    pub(crate) fn standard_error(&self) -> f64 {
        let n = self.images as f64;
        let variance = (self.squares / n - self.mean().powi(2)).max(0.0);
        (variance / n).sqrt()
    }

    /// Share of equal answers, in percent.
    pub fn agreement(&self) -> f64 {
        100.0 * self.equal as f64 / self.images as f64
    }
}

/// Runs both models on the same inputs and compares outputs and, where `values` is set, all values
/// of common names. Models must not have merged nodes for that; no labels are needed.
pub fn compare(
    a: &Executor,
    b: &Executor,
    values: bool,
    batches: impl IntoIterator<Item = std::result::Result<Batch, DataError>>,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Comparison> {
    let _guard = tch::no_grad_guard();
    let common = if values {
        common_values(a, b)
    } else {
        Vec::new()
    };
    let piece = piece_size(&common);
    let taps_a = a.taps(common.iter().map(|c| c.node_a.as_str()))?;
    let taps_b = b.taps(common.iter().map(|c| c.node_b.as_str()))?;
    let mut sums = vec![Sums::default(); common.len()];
    let mut output_sums: Vec<Sums> = Vec::new();
    let mut divergence = Divergence::default();
    let mut images = 0;
    for batch in batches {
        let batch = batch?;
        let (inputs_a, inputs_b) = (batch_inputs(a, &batch)?, batch_inputs(b, &batch)?);
        for start in (0..batch.len()).step_by(piece) {
            let length = piece.min(batch.len() - start);
            let cut = |inputs: &[Tensor]| -> Result<Vec<Tensor>> {
                let cut = |t: &Tensor| t.f_narrow(0, start as i64, length as i64);
                inputs
                    .iter()
                    .map(|t| cut(t).at("cutting a batch"))
                    .collect()
            };
            let mut seen: HashMap<String, Tensor> = HashMap::new();
            let outputs_a = a.run_with(&cut(&inputs_a)?, &taps_a, |tapped| {
                if let Some(output) = tapped.outputs.first() {
                    seen.insert(tapped.node.to_owned(), output.shallow_clone());
                }
                Ok(())
            })?;
            let outputs_b = b.run_with(&cut(&inputs_b)?, &taps_b, |tapped| {
                let both = common.iter().position(|c| c.node_b == tapped.node);
                if let (Some(place), Some(output)) = (both, tapped.outputs.first())
                    && let Some(first) = seen.remove(&common[place].node_a)
                    && first.size() == output.size()
                {
                    sums[place].add(&first, output)?;
                }
                Ok(())
            })?;
            output_sums.resize(outputs_a.len(), Sums::default());
            for ((x, y), sums) in outputs_a.iter().zip(&outputs_b).zip(&mut output_sums) {
                if x.size() != y.size() {
                    return Err(TorchError::OutputsDiffer {
                        a: x.size(),
                        b: y.size(),
                    });
                }
                sums.add(x, y)?;
            }
            if let (Some(x), Some(y)) = (outputs_a.first(), outputs_b.first())
                && x.dim() == 2
            {
                // In floats scores that are close have one and the same logarithm.
                let fine = |t: &Tensor| t.f_to_kind(Kind::Double).at("comparing outputs");
                let p = log_probabilities(&fine(x)?, a.scores())?;
                let q = log_probabilities(&fine(y)?, b.scores())?;
                divergence.add(&p, &q)?;
            }
            images += length;
        }
        if progress(images).is_break() {
            return Err(TorchError::Stopped);
        }
    }
    if images == 0 {
        return Err(TorchError::Empty { what: "compare" });
    }
    for (output, sums) in a.output_names().zip(&output_sums) {
        for (which, square) in [("first", sums.aa), ("second", sums.bb)] {
            if !square.is_finite() {
                let output = output.to_owned();
                return Err(TorchError::AnswerNonFinite { output, which });
            }
        }
    }
    let scored = divergence.images > 0;
    let compared = || common.iter().zip(&sums).filter(|(_, sums)| sums.pairs > 0);
    Ok(Comparison {
        values: compared().map(|(c, s)| s.difference(&c.node_a)).collect(),
        unlike: common.len() - compared().count(),
        outputs: (a.output_names().zip(&output_sums))
            .map(|(n, s)| s.difference(n))
            .collect(),
        kl: scored.then(|| divergence.mean()),
        kl_se: scored.then(|| divergence.standard_error()),
        agreement: scored.then(|| divergence.agreement()),
        images,
    })
}

struct Common {
    node_a: String,
    node_b: String,
    elements: usize,
}

/// Values of the same name that nodes of both models make, outputs and those that only reshape left out.
fn common_values(a: &Executor, b: &Executor) -> Vec<Common> {
    let in_b: HashMap<&str, &str> = b.made_values().map(|m| (m.value, m.node)).collect();
    let both = a
        .made_values()
        .filter(|made| made.fresh && a.output_names().all(|output| output != made.value))
        .filter_map(|made| {
            let node_b = in_b.get(made.value)?;
            Some(Common {
                node_a: made.node.to_owned(),
                node_b: (*node_b).to_owned(),
                elements: made.fact.item_elements().unwrap_or(1 << 20),
            })
        });
    both.collect()
}

/// Inputs to run at a time so that the values of one model that are kept fit into 256 MB.
fn piece_size(common: &[Common]) -> usize {
    let elements: usize = common.iter().map(|c| c.elements).sum();
    ((64 << 20) / elements.max(1)).clamp(1, 1024)
}
