//! What compression asks of a running model.
//!
//! This crate runs nothing. Whoever can run a graph (libtorch, a test's own loop) answers these
//! questions, and everything here that needs no data works without an answer.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};
use rankfold_graph::Graph;

use crate::quantize::Observed;

/// Second moments of what flows into and back out of one layer.
///
/// For a convolution the inputs are patches: S·Dh·Dw numbers in the order of the kernel
/// (channel, row, column), one patch for every output position; for a linear layer the features.
/// A grouped convolution has a covariance for each group.
#[derive(Debug, Clone)]
pub struct LayerStatistics {
    /// `E[x]` of the inputs, per group.
    pub mean: Vec<Array1<f64>>,
    /// E[(x − E x)(x − E x)ᵀ], per group.
    pub covariance: Vec<Array2<f64>>,
    /// Gᵢⱼ = E[Σ_positions gᵢ gⱼ], where g is the gradient at the layer's output of v·(logits − mean)
    /// and v is Gaussian: how far an error in each output channel moves the model's output (the
    /// Gauss–Newton matrix). Needs no label. None where no gradient could be taken.
    pub output_metric: Option<Array2<f64>>,
    /// Positions (patches or rows) seen.
    pub samples: usize,
}

impl LayerStatistics {
    /// Numbers of one sample, in one group.
    pub fn width(&self) -> usize {
        self.covariance.first().map_or(0, |own| own.nrows())
    }

    /// The covariances as far as the samples carry them: drawn towards a multiple of the identity by
    /// oracle-approximating shrinkage (Chen, Wiesel, Eldar and Hero 2010), so that directions which few
    /// samples happen not to show are not taken to be free. Many samples leave them as they are.
    #[must_use]
    pub fn shrunk(mut self) -> Self {
        for covariance in &mut self.covariance {
            shrink(covariance, self.samples);
        }
        self
    }
}

fn shrink(covariance: &mut Array2<f64>, samples: usize) {
    let (width, samples) = (covariance.nrows() as f64, samples as f64);
    let trace = covariance.diag().sum();
    let squares: f64 = covariance.iter().map(|value| value * value).sum();
    let apart = squares - trace * trace / width;
    if width < 2.0 || apart <= 0.0 {
        return;
    }
    let rest = 1.0 - 2.0 / width;
    let share = (rest * squares + trace * trace) / ((samples + rest) * apart);
    let share = share.min(1.0);
    *covariance *= 1.0 - share;
    covariance
        .diag_mut()
        .mapv_inplace(|value| value + share * trace / width);
}

/// Statistics by node name.
pub type Statistics = BTreeMap<String, LayerStatistics>;

/// What was seen of values, by their names.
pub type Observations = BTreeMap<String, Observed>;

/// Second moments at one layer of two networks that run on the same inputs: x in the original, x̂ in
/// the compressed one, and their blend z = (x + x̂) / 2.
#[derive(Debug, Clone)]
pub struct PairedStatistics {
    /// E[x̂], per group.
    pub mean: Vec<Array1<f64>>,
    /// Covariance of x̂, per group.
    pub covariance: Vec<Array2<f64>>,
    /// `E[z]`, per group.
    pub blend_mean: Vec<Array1<f64>>,
    /// Covariance of z with x̂, per group.
    pub cross: Vec<Array2<f64>>,
}

/// Answers about a running model, from inputs without labels.
///
/// One part of the inputs is there to measure covariances, another is held back to decide.
pub trait Probe {
    /// What goes wrong while running.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Second moments at the named convolutions and linear layers, in one pass.
    fn statistics(&mut self, graph: &Graph, layers: &[String]) -> Result<Statistics, Self::Error>;

    /// Second moments at a layer of the original and at what has become of it: the node `stage` of
    /// the compressed graph, which takes the layer's place and input. None for a layer that is too
    /// large to be looked at.
    fn paired(
        &mut self,
        original: &Graph,
        layer: &str,
        compressed: &Graph,
        stage: &str,
    ) -> Result<Option<PairedStatistics>, Self::Error>;

    /// What flows at the values of those names, on the inputs that are measured on.
    fn observe(&mut self, graph: &Graph, values: &[String]) -> Result<Observations, Self::Error>;

    /// KL divergence of the graph's outputs from the original's, on the inputs held back.
    fn divergence(&mut self, graph: &Graph) -> Result<f64, Self::Error>;

    /// The graph with batch-norm statistics estimated anew on augmented inputs.
    fn recalibrated(&mut self, graph: &Graph) -> Result<Graph, Self::Error>;
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn seen(covariance: Array2<f64>, samples: usize) -> LayerStatistics {
        LayerStatistics {
            mean: vec![Array1::zeros(covariance.nrows())],
            covariance: vec![covariance],
            output_metric: None,
            samples,
        }
    }

    /// By hand: ρ = ((1 − 2/3)·tr S² + tr² S) / ((n + 1 − 2/3)·(tr S² − tr² S / 3)).
    #[test]
    fn few_samples_draw_covariances_towards_the_identity() {
        let own = array![[4.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let (squares, trace) = (20.0, 6.0);
        let share = (squares / 3.0 + trace * trace) / ((10.0 + 1.0 / 3.0) * (squares - 12.0));
        let shrunk = &seen(own.clone(), 10).shrunk().covariance[0];
        let expected = &own * (1.0 - share) + Array2::<f64>::eye(3) * (share * 2.0);
        assert!(
            (shrunk - &expected).iter().all(|d| d.abs() < 1e-12),
            "{shrunk}"
        );
        let sum: f64 = shrunk.diag().sum();
        assert!((sum - trace).abs() < 1e-12, "the energy stays");
        let many = &seen(own.clone(), 10_000_000).shrunk().covariance[0];
        assert!((many - &own).iter().all(|d| d.abs() < 1e-5), "{many}");
        // One sample tells nothing of directions.
        let one = &seen(array![[4.0, 0.0], [0.0, 0.0]], 1).shrunk().covariance[0];
        assert_eq!(one, &array![[2.0, 0.0], [0.0, 2.0]]);
    }
}
