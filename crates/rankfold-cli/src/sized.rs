//! Budgets in bytes: what counts is the size of the file that is written.

use rankfold_compress::{Layer, Plan};
use rankfold_graph::{CostModel, DType, Graph};
use serde_json::Value;

use crate::calibration::Calibration;
use crate::failure::{Failure, Kind, Outcome};
use crate::folder::{OutFolder, Written};
use crate::model::Loaded;
use crate::output::bytes;
use crate::record::Record;

/// The bytes of a stored number: of the type asked for, or of the first kernel's.
pub(crate) fn number_bytes(graph: &Graph, dtype: Option<DType>) -> u64 {
    let layers = Layer::all(graph);
    let kernel = layers
        .first()
        .and_then(|layer| graph.weights().get(&layer.weight));
    let own = kernel.map_or(DType::F32, |kernel| kernel.dtype());
    dtype.unwrap_or(own).size() as u64
}

/// A limit of the written file's size, where there is one.
#[derive(Debug)]
pub(crate) struct Sized<'a> {
    out: &'a OutFolder,
    loaded: &'a Loaded,
    /// The network that is compressed.
    graph: &'a Graph,
    dtype: Option<DType>,
    /// Bytes of a number.
    unit: u64,
    limit: Option<u64>,
}

impl<'a> Sized<'a> {
    /// At most `limit` bytes for what becomes of a model's network in a folder.
    pub(crate) fn new(
        out: &'a OutFolder,
        loaded: &'a Loaded,
        graph: &'a Graph,
        dtype: Option<DType>,
        limit: Option<u64>,
    ) -> Self {
        Self {
            out,
            loaded,
            graph,
            dtype,
            unit: number_bytes(graph, dtype),
            limit,
        }
    }

    /// The bytes that are not weights in the file of a graph, where that file is too large: plans are
    /// first made with an estimate of them.
    pub(crate) fn overhead(
        &self,
        graph: &Graph,
        plan: &Plan,
        calibration: Option<&Calibration>,
    ) -> Outcome<Option<u64>> {
        let Some(limit) = self.limit else {
            return Ok(None);
        };
        let record = Record::new(self.loaded, plan, &[], Value::Null, calibration)?;
        let origin = self.loaded.origin.as_ref();
        let written = self.out.measure(graph, origin, &record, self.dtype)?;
        let size = self.unit * self.planned_numbers(plan);
        Ok((written > limit).then(|| written.saturating_sub(size)))
    }

    /// The numbers that a plan counts: what a compressed graph has more, it took for none.
    fn planned_numbers(&self, plan: &Plan) -> u64 {
        let before = self.graph.cost(CostModel::True).unwrap_or_default();
        let layers = plan.layers.iter().filter_map(|layer| layer.parameters);
        let saved: i64 = layers.map(|[own, new]| own as i64 - new as i64).sum();
        before.parameters_with_buffers.saturating_add_signed(-saved)
    }

    /// An error where a written file is too large after all.
    pub(crate) fn check(&self, written: &Written) -> Outcome {
        match self.limit {
            Some(limit) if written.file_bytes() > limit => Err(Failure::new(
                Kind::Unmet,
                format!(
                    "the written model takes {}, {} were allowed",
                    bytes(written.file_bytes()),
                    bytes(limit)
                ),
            )
            .hint("ask for a little less, or leave --reconstruct and --recalibrate out")),
            _ => Ok(()),
        }
    }
}

/// How many plans are tried for a budget in bytes.
const TRIES: usize = 12;

/// The search for the bytes that are not weights. They change with the plan, for the better too: what
/// an exporter wrote about a layer goes with it.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// The number that the next plan is made with; an estimate at first.
    overhead: Option<u64>,
    /// A plan made with this many was too large.
    low: u64,
    /// No plan was possible with this many.
    high: Option<u64>,
    tries: usize,
}

impl Search {
    /// The bytes to make the next plan with; none for the estimate.
    pub(crate) fn overhead(&self) -> Option<u64> {
        self.overhead
    }

    /// No plan was possible: fewer bytes next, if there is a number that was not tried.
    pub(crate) fn refused(&mut self, failure: Failure) -> Outcome {
        self.tries += 1;
        match self.overhead {
            Some(overhead) if failure.is_unmet() && self.tries < TRIES => {
                self.high = Some(overhead);
                let middle = self.low.midpoint(overhead);
                if middle == self.low {
                    return Err(failure);
                }
                self.overhead = Some(middle);
                Ok(())
            }
            _ => Err(failure),
        }
    }

    /// What was written is too large and has `measured` bytes that are not weights.
    pub(crate) fn too_large(&mut self, measured: u64) -> Outcome {
        self.tries += 1;
        self.low = self.overhead.unwrap_or(0);
        let next = match self.high {
            Some(high) if measured >= high => self.low.midpoint(high),
            _ => measured,
        };
        if next <= self.low || self.tries >= TRIES {
            return Err(
                Failure::new(Kind::Unmet, "no plan was found whose file is small enough")
                    .hint("ask for less, or let more layers take part (see --only and --skip)"),
            );
        }
        self.overhead = Some(next);
        Ok(())
    }
}
