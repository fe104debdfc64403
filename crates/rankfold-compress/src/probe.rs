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
