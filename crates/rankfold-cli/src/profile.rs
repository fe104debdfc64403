//! Where the time of a network goes, step by step, against what the machine can do.

use std::collections::HashSet;

use rankfold_compress::StepTime;
use rankfold_graph::{Cost, CostModel, Graph, ValueId};
use rankfold_torch::{Device, Executor, Peaks, random_inputs};
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::table;

/// Runs that are looked at; the median of a step counts.
const RUNS: usize = 21;

/// One step of a network.
#[derive(Debug, Serialize)]
pub(crate) struct StepRow {
    nodes: Vec<String>,
    op: &'static str,
    ms: f64,
    macs: u64,
    bytes: u64,
    /// Which of the two it is closer to, and how close, in percent of the peak.
    bound: &'static str,
    of_peak: f64,
}

/// The peaks of the machine that rows are measured against.
#[derive(Debug, Serialize)]
pub(crate) struct Roof {
    gmacs_per_second: f64,
    gbytes_per_second: f64,
}

impl Roof {
    /// What the device does at most.
    pub(crate) fn measure(device: Device) -> Outcome<Self> {
        let peaks = Peaks::measure(device)?;
        Ok(Self {
            gmacs_per_second: peaks.macs / 1e9,
            gbytes_per_second: peaks.bytes / 1e9,
        })
    }
}

/// The steps of a network on a batch of inputs.
pub(crate) fn steps(
    graph: &Graph,
    executor: &Executor,
    batch: usize,
    roof: &Roof,
) -> Outcome<Vec<StepRow>> {
    if executor.options().device != Device::Cpu {
        return Err(Failure::usage("steps are timed on the CPU only")
            .hint("add --device cpu, or leave --profile out"));
    }
    let inputs = random_inputs(executor, batch, 0)?;
    executor.profile(&inputs, 3)?;
    let times = executor.profile(&inputs, RUNS)?;
    let costs = graph.costs(CostModel::True).unwrap_or_default();
    let row = |step: StepTime| {
        let (cost, bytes) = work(graph, &costs, &step.nodes, batch);
        let seconds = step.seconds.max(1e-9);
        let macs = cost.macs * batch as u64;
        let bytes = if step.view { 0 } else { bytes };
        let (arithmetic, memory) = (
            macs as f64 / seconds / 1e9 / roof.gmacs_per_second,
            bytes as f64 / seconds / 1e9 / roof.gbytes_per_second,
        );
        StepRow {
            nodes: step.nodes,
            op: step.op,
            ms: 1e3 * seconds,
            macs,
            bytes,
            bound: if arithmetic >= memory {
                "MACs"
            } else {
                "bytes"
            },
            of_peak: 100.0 * arithmetic.max(memory),
        }
    };
    Ok(times.into_iter().map(row).collect())
}

/// What nodes cost together, and the bytes that pass into and out of them.
fn work(graph: &Graph, costs: &[Cost], nodes: &[String], batch: usize) -> (Cost, u64) {
    let mut cost = Cost::default();
    let (mut taken, mut made) = (HashSet::new(), HashSet::new());
    for (node, own) in graph.nodes().iter().zip(costs) {
        if nodes.contains(&node.name) {
            cost += *own;
            taken.extend(node.inputs.iter().copied());
            made.extend(node.outputs.iter().copied());
        }
    }
    let inside = |value: &ValueId| {
        let mut takers = graph.consumers(*value);
        made.contains(value) && takers.all(|taker| nodes.contains(&taker.name))
    };
    let outside = taken
        .union(&made)
        .filter(|value| !inside(value) || graph.outputs().contains(value));
    let floats: u64 = outside.map(|&value| floats(graph, value, batch)).sum();
    (cost, cost.bytes + 4 * floats)
}

fn floats(graph: &Graph, value: ValueId, batch: usize) -> u64 {
    let shape = graph.fact(value).shape.as_deref().unwrap_or_default();
    let sizes = shape.iter().enumerate();
    let size = |(i, dim): (usize, &rankfold_graph::Dim)| match (dim.fixed(), i) {
        (Some(size), _) => size as u64,
        (None, 0) => batch as u64,
        (None, _) => 1,
    };
    sizes.map(size).product()
}

/// The steps as a table, and what they add up to.
pub(crate) fn text(model: &str, batch: usize, rows: &[StepRow], roof: &Roof) -> String {
    let total: f64 = rows.iter().map(|row| row.ms).sum();
    let lines = rows.iter().map(|row| {
        let first = row.nodes.first().map_or("", String::as_str);
        let more = match row.nodes.len() {
            0 | 1 => String::new(),
            many => format!(" +{}", many - 1),
        };
        vec![
            format!("{first}{more}"),
            row.op.to_owned(),
            format!("{:.4}", row.ms),
            format!("{:.1} %", 100.0 * row.ms / total),
            format!("{:.1}", row.macs as f64 / row.ms / 1e6),
            format!("{:.1}", row.bytes as f64 / row.ms / 1e6),
            match row.of_peak > 0.0 {
                true => format!("{:.0} % of {}", row.of_peak, row.bound),
                false => String::new(),
            },
        ]
    });
    let header = ["step", "op", "ms", "share", "GMAC/s", "GB/s", "of the peak"];
    format!(
        "{model}, batch {batch}\n\n{}\n\n{total:.3} ms in all; this machine: {:.0} GMAC/s, {:.0} GB/s",
        table(&header, &[0, 1], lines.collect()),
        roof.gmacs_per_second,
        roof.gbytes_per_second,
    )
}
