//! What `plan` and `compress` do alike: statistics, curves and a plan, with progress.

use rankfold_compress::{
    Layer, LayerStatistics, Plan, Planned, Probe, Request, Statistics, plan as choose,
};
use rankfold_decompose::Control;
use rankfold_graph::Graph;
use rankfold_torch::TorchProbe;
use serde_json::Value;

use crate::failure::Outcome;
use crate::interrupt;
use crate::model::Loaded;
use crate::output::note;
use crate::progress;

/// Second moments of every layer's inputs, where there is a model to run and data to run it on.
pub(crate) fn statistics(graph: &Graph, probe: Option<&mut TorchProbe>) -> Outcome<Statistics> {
    let Some(probe) = probe else {
        return Ok(Statistics::new());
    };
    let layers: Vec<String> = Layer::all(graph)
        .into_iter()
        .filter(|layer| layer.fixed.is_none())
        .map(|layer| layer.name)
        .collect();
    statistics_at(graph, &layers, probe)
}

/// Second moments of the inputs of the named layers.
pub(crate) fn statistics_at(
    graph: &Graph,
    layers: &[String],
    probe: &mut TorchProbe,
) -> Outcome<Statistics> {
    if layers.is_empty() {
        return Ok(Statistics::new());
    }
    let bar = progress::bar("calibrating", 1);
    let statistics = probe.statistics(graph, layers);
    bar.finish_and_clear();
    let (statistics, blind): (Statistics, Statistics) = statistics?
        .into_iter()
        .partition(|(_, own)| has_varied(own));
    if let Some(name) = blind.keys().next() {
        let others = and_others(blind.len() - 1, "too");
        note(format!(
            "the inputs are all alike at `{name}`{others}: factors there fit the weights"
        ));
    }
    if let Some(few) = told_of_few(&statistics) {
        note(few);
    }
    let shrunk = statistics.into_iter();
    Ok(shrunk.map(|(name, own)| (name, own.shrunk())).collect())
}

/// A variance of this share of the squared mean may be rounding.
const ROUNDING: f64 = 1e-6;

/// Whether the inputs of a layer differ.
fn has_varied(statistics: &LayerStatistics) -> bool {
    let mut groups = statistics.covariance.iter().zip(&statistics.mean);
    groups.any(|(covariance, mean)| covariance.diag().sum() > ROUNDING * mean.dot(mean))
}

/// So many layers more, in words.
fn and_others(count: usize, how: &str) -> String {
    match count {
        0 => String::new(),
        1 => format!(", and at one other layer {how}"),
        n => format!(", and at {n} other layers {how}"),
    }
}

/// That layers saw fewer samples than a sample has numbers, in words.
fn told_of_few(statistics: &Statistics) -> Option<String> {
    let few = || {
        statistics
            .iter()
            .filter(|(_, own)| own.samples < own.width())
    };
    let (name, own) = few().max_by_key(|(_, own)| own.width() - own.samples)?;
    let others = and_others(few().count() - 1, "they are too few");
    Some(format!(
        "few inputs: `{name}` takes {} numbers and saw {} samples{others}; data with more inputs, and \
         --calibrate as high, make factors that fit new inputs better",
        own.width(),
        own.samples
    ))
}

/// A plan, with a bar over the layers whose curves are measured.
pub(crate) fn plan(graph: &Graph, request: &Request, statistics: &Statistics) -> Outcome<Planned> {
    let layers = Layer::all(graph).len();
    let bar = progress::bar("planning", layers as u64);
    let finished = |name: &str| {
        bar.inc(1);
        bar.set_message(name.to_owned());
    };
    let control = Control::default().cancel_with(interrupt::flag());
    let planned = choose(graph, request, statistics, control, &finished);
    bar.finish_and_clear();
    interrupt::check()?;
    let planned = planned?;
    if let Some(expected) = planned.expected {
        let lost = expected.drop.map_or_else(String::new, |drop| {
            format!(", {:.2} points of accuracy lost", 100.0 * drop)
        });
        note(format!(
            "expected by the sweep: divergence {:.4}{lost}",
            expected.divergence
        ));
    }
    Ok(planned)
}

/// The plan by which a model was compressed, or one that changes nothing.
pub(crate) fn previous(loaded: &Loaded, seed: u64) -> Plan {
    let stored = loaded.record.get("plan").cloned().unwrap_or(Value::Null);
    serde_json::from_value(stored)
        .unwrap_or_else(|_| Plan::new(&loaded.graph, "nothing".to_owned(), seed))
}
