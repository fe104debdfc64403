//! Weights too small to matter become zeros.

use rankfold_graph::{Graph, Op, Role, Tensor};

use crate::error::{CompressError, Refusal};
use crate::form::Form;

/// The magnitude below which a weight of a layer becomes zero, from the mean m and the variance v of
/// all weights of that layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConnectionRule {
    /// So many times √(m² + v), the root mean square of the weights. Scaling a layer changes nothing.
    RootMeanSquare(f64),
    /// |m| plus so many times v (Çallı 2017). It depends on the scale of a layer.
    MeanVariance(f64),
}

impl ConnectionRule {
    fn threshold(self, weights: &[f32]) -> f64 {
        let count = weights.len().max(1) as f64;
        let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / count;
        let squares = weights.iter().map(|&w| (f64::from(w) - mean).powi(2));
        let variance = squares.sum::<f64>() / count;
        match self {
            Self::RootMeanSquare(times) => times * (mean * mean + variance).sqrt(),
            Self::MeanVariance(times) => mean.abs() + times * variance,
        }
    }
}

/// What became of the connections of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerZeros {
    /// The layer.
    pub name: String,
    /// Weights in its kernel.
    pub weights: usize,
    /// Of these, zeros before and after.
    pub zeros: [usize; 2],
    /// The magnitude below which a weight became zero.
    pub threshold: f64,
}

/// The graph with the small weights of all convolutions and linear layers set to zero, an error where
/// there are none.
pub fn prune_connections(
    graph: &Graph,
    rule: ConnectionRule,
) -> Result<(Graph, Vec<LayerZeros>), CompressError> {
    let mut pruned = graph.clone();
    let mut layers = Vec::new();
    for node in graph.nodes() {
        if !matches!(node.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_)) {
            continue;
        }
        for (_, name) in (node.op.weights().into_iter()).filter(|(role, _)| *role == Role::Kernel) {
            let Some(kernel) = pruned.weights().get(name).cloned() else {
                continue;
            };
            let (zeroed, outcome) = without_small(&node.name, &kernel, rule)?;
            pruned.set_weight(name, zeroed)?;
            layers.push(outcome);
        }
    }
    match layers.is_empty() {
        true => Err(CompressError::NoLayer),
        false => Ok((pruned, layers)),
    }
}

fn without_small(
    layer: &str,
    kernel: &Tensor,
    rule: ConnectionRule,
) -> Result<(Tensor, LayerZeros), CompressError> {
    let refused = |_| CompressError::Refused {
        layer: layer.to_owned(),
        form: Form::Keep,
        refusal: Refusal::NotFloat,
    };
    let mut values = kernel.to_f32().map_err(refused)?.into_owned();
    let threshold = rule.threshold(&values);
    let zeros = |values: &[f32]| values.iter().filter(|&&w| w == 0.0).count();
    let before = zeros(&values);
    for weight in values.iter_mut().filter(|w| f64::from(w.abs()) < threshold) {
        *weight = 0.0;
    }
    let outcome = LayerZeros {
        name: layer.to_owned(),
        weights: values.len(),
        zeros: [before, zeros(&values)],
        threshold,
    };
    let zeroed = Tensor::from_f32(kernel.shape().to_vec(), values)
        .and_then(|tensor| tensor.to_float_dtype(kernel.dtype()))
        .map_err(refused)?;
    Ok((zeroed, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_rule_does_not_see_the_scale_and_the_thesis_rule_does() {
        let weights = [0.1f32, -0.2, 1.0, -1.5, 0.05];
        let small = weights.map(|w| w / 1000.0);
        let share = |rule: ConnectionRule| {
            let below = |weights: &[f32]| {
                let threshold = rule.threshold(weights);
                weights
                    .iter()
                    .filter(|w| f64::from(w.abs()) < threshold)
                    .count()
            };
            [below(&weights), below(&small)]
        };
        assert_eq!(share(ConnectionRule::RootMeanSquare(0.25)), [3, 3]);
        let [one, other] = share(ConnectionRule::MeanVariance(0.25));
        assert_ne!(one, other);
    }

    #[test]
    fn thresholds_are_what_the_rules_say() {
        // Mean −2, variance 4.5.
        let weights = [-4.0, -4.0, 1.0, -1.0];
        let near = |rule: ConnectionRule, expected: f64| {
            let threshold = rule.threshold(&weights);
            assert!(
                (threshold - expected).abs() < 1e-12,
                "{rule:?}: {threshold}"
            );
        };
        near(ConnectionRule::MeanVariance(0.5), 2.0 + 0.5 * 4.5);
        near(ConnectionRule::RootMeanSquare(0.5), 0.5 * 8.5f64.sqrt());
    }
}
