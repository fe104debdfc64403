//! Which network a bare state dict belongs to.

use rankfold_graph::Weights;

use crate::network::{Network, list};
use crate::options::{InitialWeights, MAX_CLASSES, MAX_K, Options};

/// How well a network fits a state dict.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The network.
    pub network: &'static Network,
    /// Share of the tensors, on the side that has more, with a partner of equal name and shape; a
    /// partner of another shape counts half.
    pub score: f64,
    /// The options under which it fits so well.
    pub options: Options,
}

/// All networks, the best fitting first.
pub fn closest(weights: &Weights) -> Vec<Match> {
    let mut matches: Vec<Match> = list().map(|network| fit(network, weights)).collect();
    matches.sort_by(|a, b| b.score.total_cmp(&a.score));
    matches
}

/// The options that the shapes of a state dict tell.
///
/// The number of classes is the last layer's rows; the inner width of LightLayers is the first
/// layer's. What the state dict does not tell is left open.
pub fn infer_options(network: &Network, weights: &Weights) -> Options {
    let rows = |layer: &str, max: usize| {
        let tensor = weights.get(&format!("{layer}.weight"))?;
        let rows = *tensor.shape().first()?;
        (1..=max).contains(&rows).then_some(rows)
    };
    Options {
        num_classes: rows(network.last, MAX_CLASSES).filter(|_| network.tells_classes()),
        k: network.k.and_then(|_| rows(network.first, MAX_K)),
        ..Options::default()
    }
}

fn fit(network: &'static Network, weights: &Weights) -> Match {
    let options = infer_options(network, weights);
    let zeros = Options {
        weights: InitialWeights::Zeros,
        ..options.clone()
    };
    let score = network.build(&zeros).map_or(0.0, |graph| {
        let given = weights.names().filter(|name| !network.passes_over(name));
        let most = graph.weights().len().max(given.count()).max(1);
        let fitting: f64 = (graph.weights().iter())
            .map(|(name, own)| match weights.get(name) {
                Some(tensor) if tensor.shape() == own.shape() => 1.0,
                Some(_) => 0.5,
                None => 0.0,
            })
            .sum();
        fitting / most as f64
    });
    Match {
        network,
        score,
        options,
    }
}
