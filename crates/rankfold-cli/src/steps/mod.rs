//! What a model goes through: pruning, clustering and quantising as a single step each, for the commands
//! of their own and for `compress --steps`.

mod order;

use rankfold_compress::{
    Clustered, Clustering, ConnectionRule, LayerZeros, Quantized, RangeRule, Try, cluster,
    prune_connections, quantize, quantize_weights,
};
use rankfold_graph::{Code, Graph};
use serde_json::{Value, json};

pub(crate) use self::order::{Step, check_order};
use crate::calibration::Calibration;
use crate::failure::Outcome;
use crate::interrupt;
use crate::output::{grouped, note, percent};
use crate::progress;

/// A network after a step.
pub(crate) struct Change {
    pub(crate) graph: Graph,
    /// What the step is called.
    pub(crate) step: &'static str,
    /// What the report says of it.
    pub(crate) account: Value,
    /// What was done, in words.
    pub(crate) did: String,
}

impl Change {
    /// The network with its small weights set to zero.
    pub(crate) fn pruned(graph: &Graph, rule: ConnectionRule) -> Outcome<Self> {
        let (graph, layers) = prune_connections(graph, rule)?;
        interrupt::check()?;
        Ok(Self {
            graph,
            step: "prune-connections",
            account: json!({ "connections": connections(&layers) }),
            did: zeros_line(&layers),
        })
    }

    /// The network with few distinct values in every layer.
    pub(crate) fn clustered(graph: &Graph, clustering: Clustering) -> Outcome<Self> {
        let bar = progress::bar(
            "clustering",
            rankfold_compress::Layer::all(graph).len() as u64,
        );
        let done = cluster(graph, clustering, &|name| {
            bar.inc(1);
            bar.set_message(name.to_owned());
            interrupt::flow()
        });
        bar.finish_and_clear();
        interrupt::check()?;
        let (graph, outcomes) = done?;
        let (how, number) = match clustering {
            Clustering::Decimals(decimals) => ("decimals", u64::from(decimals)),
            Clustering::Book(values) => ("book", values as u64),
        };
        let layers = outcomes.len();
        let did = match clustering {
            Clustering::Decimals(decimals) => {
                format!("weights of {layers} layers rounded to {decimals} decimals")
            }
            Clustering::Book(values) => {
                format!("at most {values} values in each of {layers} layers")
            }
        };
        Ok(Self {
            graph,
            step: "cluster",
            account: json!({ "clustered": { how: number, "weights": weights(&outcomes) } }),
            did,
        })
    }

    /// The network with weights in 8 bits, and what flows too where there are inputs to calibrate on.
    pub(crate) fn quantized(graph: &Graph, calibration: Option<&Calibration>) -> Outcome<Self> {
        let quantized = match calibration {
            None => quantize_weights(graph)?,
            Some(calibration) => calibrated(graph, calibration)?,
        };
        interrupt::check()?;
        if let Some(best) = quantized.tries.first() {
            note(told(best, quantized.values));
        }
        Ok(Self {
            step: "quantize",
            account: json!({ "quantized": tries(&quantized) }),
            did: match quantized.values {
                0 => "weights in 8 bits".to_owned(),
                values => format!("weights and {values} values in 8 bits"),
            },
            graph: quantized.graph,
        })
    }

    /// That code books of the network before are gone, in words; none where they are all there.
    pub(crate) fn lost_books(&self, before: &Graph) -> Option<String> {
        let [had, have] = [books(before), books(&self.graph)];
        let step = self.step;
        (have < had).then(|| {
            format!(
                "{step} computes new weights: {} of {had} code books are gone",
                had - have
            )
        })
    }
}

/// The weights that are stored as a code book.
fn books(graph: &Graph) -> usize {
    let codes = graph
        .weights()
        .iter()
        .filter_map(|(_, tensor)| tensor.code());
    codes.filter(|code| matches!(code, Code::Book(_))).count()
}

fn calibrated(graph: &Graph, calibration: &Calibration) -> Outcome<Quantized> {
    let mut probe = calibration.probe(graph)?;
    let bar = progress::bar("quantising", 2 * RangeRule::ALL.len() as u64);
    let quantized = quantize(graph, &mut probe, &mut |attempt| {
        bar.inc(1);
        bar.set_message(format!("divergence {:.2e}", attempt.divergence));
        interrupt::flow()
    });
    bar.finish_and_clear();
    interrupt::check()?;
    Ok(quantized?)
}

fn told(best: &Try, values: usize) -> String {
    let channels = match best.equalized {
        true => "channels equalised",
        false => "channels as they were",
    };
    format!(
        "{values} values in 8 bits: {} ranges, {channels}; divergence {:.2e} on the inputs held back",
        best.rule, best.divergence
    )
}

/// What a report says of a quantisation.
fn tries(quantized: &Quantized) -> Value {
    let tries = quantized.tries.iter().map(|attempt| {
        json!({
            "equalized": attempt.equalized,
            "ranges": attempt.rule.to_string(),
            "divergence": attempt.divergence,
        })
    });
    json!({ "values": quantized.values, "tries": tries.collect::<Vec<_>>() })
}

/// What a report says of a clustering.
fn weights(outcomes: &[Clustered]) -> Value {
    let weights = outcomes.iter().map(|outcome| {
        json!({
            "weight": &*outcome.weight,
            "values": outcome.values,
            "error": outcome.error,
        })
    });
    weights.collect()
}

/// What a report says of the weights of all layers that were pruned.
pub(crate) fn connections(layers: &[LayerZeros]) -> Value {
    let rows = layers.iter().map(|layer| {
        json!({
            "name": layer.name,
            "weights": layer.weights,
            "zeros": layer.zeros,
            "threshold": layer.threshold,
        })
    });
    rows.collect()
}

/// Zeros of all layers together, in words.
pub(crate) fn zeros_line(layers: &[LayerZeros]) -> String {
    let weights: usize = layers.iter().map(|layer| layer.weights).sum();
    let zeros: usize = layers.iter().map(|layer| layer.zeros[1]).sum();
    format!(
        "{} of {} weights are zero ({} %)",
        grouped(zeros as u64),
        grouped(weights as u64),
        percent(zeros as u64, weights as u64)
    )
}
