//! Weights and values in 8 bits.
//!
//! Weights are whole numbers with a scale for every output channel. A value that a layer takes or a
//! convolution makes is rounded to one of 256 evenly spaced numbers by a node of its own, an
//! [`ops::Quantize`](rankfold_graph::ops::Quantize), which runs wherever the graph runs and becomes a
//! pair of `QuantizeLinear` and `DequantizeLinear` in ONNX. Which numbers those are is decided by how far
//! the whole model's answers come to lie from the original's.

mod equalize;
mod range;
mod sites;
mod weights;

use std::ops::ControlFlow;

use rankfold_graph::{Graph, Op, Patch, Wire};

use self::equalize::equalized;
pub use self::range::{Observed, RangeRule};
use self::sites::{Site, sites};
use self::weights::{with_bias_steps, with_int8_weights};
use crate::error::CompressError;
use crate::probe::{Observations, Probe};

/// A way to quantise, and how far the answers then are from the original's.
#[derive(Debug, Clone, PartialEq)]
pub struct Try {
    /// Channels were scaled to alike ranges before.
    pub equalized: bool,
    /// How ranges follow from what was observed.
    pub rule: RangeRule,
    /// What [`Probe::divergence`] says.
    pub divergence: f64,
}

/// A quantised graph.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The graph.
    pub graph: Graph,
    /// What was tried, the best first; empty where no value is quantised.
    pub tries: Vec<Try>,
    /// Values that are quantised.
    pub values: usize,
}

/// The graph with weights in 8 bits and values as they were.
pub fn quantize_weights(graph: &Graph) -> Result<Quantized, CompressError> {
    let graph = with_int8_weights(&without_rounding(graph)?)?;
    if (graph.weights().iter()).all(|(_, tensor)| tensor.code().is_none()) {
        return Err(CompressError::NoLayer);
    }
    Ok(Quantized {
        graph,
        tries: Vec::new(),
        values: 0,
    })
}

/// The graph with weights and values in 8 bits, by the ranges under which the probe's held-back inputs
/// are answered most like before. `tried` hears of every try and may end the work.
pub fn quantize<P: Probe>(
    graph: &Graph,
    probe: &mut P,
    tried: &mut dyn FnMut(&Try) -> ControlFlow<()>,
) -> Result<Quantized, CompressError> {
    let plain = without_rounding(graph)?;
    let observations = observe(&plain, probe)?;
    let level = equalized(&plain, &observations)?;
    let mut bases = vec![(false, plain, observations)];
    if let Some(level) = level {
        let observations = observe(&level, probe)?;
        bases.push((true, level, observations));
    }
    let mut best: Option<Graph> = None;
    let mut tries: Vec<Try> = Vec::new();
    for (equalized, base, observations) in bases {
        for rule in RangeRule::ALL {
            let quantized = with_ranges(&base, &observations, rule)?;
            let divergence = probe.divergence(&quantized);
            let attempt = Try {
                equalized,
                rule,
                divergence: divergence.map_err(|e| CompressError::Probe(Box::new(e)))?,
            };
            if tried(&attempt).is_break() {
                return Err(CompressError::Stopped);
            }
            let better = |best: &Try| attempt.divergence.total_cmp(&best.divergence).is_lt();
            match tries.first().is_none_or(better) {
                true => {
                    best = Some(quantized);
                    tries.insert(0, attempt);
                }
                false => tries.push(attempt),
            }
        }
    }
    let graph = best.ok_or(CompressError::NothingToQuantize)?;
    let is_rounding = |node: &&rankfold_graph::Node| matches!(node.op, Op::Quantize(_));
    Ok(Quantized {
        values: graph.nodes().iter().filter(is_rounding).count(),
        graph,
        tries,
    })
}

/// What flows where values are to be quantised.
fn observe<P: Probe>(graph: &Graph, probe: &mut P) -> Result<Observations, CompressError> {
    let mut names: Vec<String> = (sites(graph).iter())
        .map(|site| graph.value(site.source).name.clone())
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(CompressError::NothingToQuantize);
    }
    probe
        .observe(graph, &names)
        .map_err(|e| CompressError::Probe(Box::new(e)))
}

/// The graph with weights in 8 bits and values rounded as the rule says.
fn with_ranges(
    graph: &Graph,
    observations: &Observations,
    rule: RangeRule,
) -> Result<Graph, CompressError> {
    let mut quantized = with_int8_weights(graph)?;
    let mut patch = Patch::new("quantise values");
    for Site { value, source } in sites(graph) {
        let Some(observed) = observations.get(&graph.value(source).name) else {
            continue;
        };
        let name = format!("{}.int8", graph.value(value).name);
        let rounded = patch.node(name, rule.rounding(observed), &[Wire::Old(value)]);
        patch.redirect(value, rounded);
    }
    patch.apply(&mut quantized)?;
    with_bias_steps(&quantized)
}

/// The graph without what an earlier quantisation put in. What rounds an output of the model stays.
fn without_rounding(graph: &Graph) -> Result<Graph, CompressError> {
    let mut patch = Patch::new("take quantisation out");
    let mut found = false;
    for node in graph.nodes() {
        let inner = !graph.outputs().contains(&node.output());
        if matches!(node.op, Op::Quantize(_)) && inner {
            patch.redirect(node.output(), node.inputs[0]);
            found = true;
        }
    }
    let mut plain = graph.clone();
    if found {
        patch.apply(&mut plain)?;
    }
    Ok(plain)
}

#[cfg(test)]
mod tests;
