//! Whether a model loses no more answers than it may, on inputs that its sweep did not use.

use rankfold_compress::{Answer, Budget, Changed, Evidence, Sweep};
use rankfold_data::{DataSpec, Dataset, Split};
use rankfold_graph::Graph;
use rankfold_torch::{Reading, TorchProbe, Yardstick};
use serde_json::{Value, json};

use crate::args::PreparationArgs;
use crate::calibration::Calibration;
use crate::data;
use crate::failure::{Failure, Kind, Outcome};
use crate::output::note;

/// Inputs that are looked at, at most.
const INPUTS: usize = 5000;

/// Models that are tried.
const TRIES: usize = 8;

/// The search for the smallest model that loses no more than a share of the answers: where one was
/// measured to lose too much, the next is to diverge less.
#[derive(Debug)]
pub(crate) struct Verification {
    yardstick: Yardstick,
    split: String,
    /// The share that may be lost.
    limit: f64,
    /// How far the next model may diverge by the sweep; as its drops tell at first.
    divergence: Option<f64>,
    tries: Vec<Value>,
}

impl Verification {
    /// A search on labelled inputs of the sweep's split that neither the sweep nor the factors saw.
    pub(crate) fn new(
        limit: f64,
        evidence: &Evidence,
        spec: &DataSpec,
        how: &PreparationArgs,
        calibration: &Calibration,
        probe: &TorchProbe,
        graph: &Graph,
    ) -> Outcome<Self> {
        let sweep = evidence.sweep();
        let unused = unused(sweep, spec, how, calibration, graph)?;
        if !unused.labelled() {
            return Err(
                Failure::usage("--max-drop is verified on labels, and the data have none")
                    .hint("give data with labels, or another budget"),
            );
        }
        let loader = data::loader(graph, unused, how, calibration.batch_size())?;
        Ok(Self {
            yardstick: Yardstick::new(probe, loader, |_| {})?,
            split: sweep.data.split.clone(),
            limit,
            divergence: None,
            tries: Vec::new(),
        })
    }

    /// What the next plan is made for.
    pub(crate) fn budget(&self) -> Budget {
        match self.divergence {
            None => Budget::MaxDrop(self.limit),
            Some(divergence) => Budget::MaxDivergence(divergence),
        }
    }

    /// Whether a model, of which the sweep made one expect these answers, keeps the limit; where it does
    /// not, the next is to diverge less.
    pub(crate) fn accepts(&mut self, graph: &Graph, expected: Option<Answer>) -> Outcome<bool> {
        let reading = self.yardstick.read(graph)?;
        let (drop, error) = lost(&reading);
        self.tries.push(json!({
            "expected": expected.map(|answer| json!({
                "divergence": answer.divergence,
                "drop": answer.drop.map(|drop| 100.0 * drop),
            })),
            "drop": 100.0 * drop,
            "drop_se": 100.0 * error,
        }));
        let measured = format!(
            "{:.2} ± {:.2} points lost on {} inputs of {} that the sweep did not use",
            100.0 * drop,
            100.0 * error,
            reading.images,
            self.split
        );
        let limit = 100.0 * self.limit;
        if drop <= self.limit {
            note(format!("verified: {measured}"));
            if drop + error > self.limit {
                note(format!("that is within its sampling error of {limit:.2}"));
            }
            return Ok(true);
        }
        if self.tries.len() == TRIES {
            return Err(Failure::new(
                Kind::Unmet,
                format!("no model was found that loses at most {limit:.2} points: {measured}"),
            )
            .hint("allow more, add --effort best, or let fewer layers take part (see --skip)"));
        }
        note(format!(
            "{measured}, more than {limit:.2}: a larger model is tried"
        ));
        let divergence = expected.map_or(1.0, |answer| answer.divergence);
        self.divergence = Some(divergence * (self.limit / drop).clamp(0.1, 0.7));
        Ok(false)
    }

    /// What was tried, for the report.
    pub(crate) fn record(&self) -> Value {
        json!({
            "max_drop": 100.0 * self.limit,
            "split": self.split,
            "tries": self.tries,
        })
    }
}

/// The share of answers lost, and its standard error.
fn lost(reading: &Reading) -> (f64, f64) {
    let changed = reading.labels.map(|hits| Changed {
        lost: hits.lost as u64,
        gained: hits.gained as u64,
    });
    changed.map_or((1.0, 0.0), |changed| changed.drop(reading.images as u64))
}

/// Inputs of the sweep's split that neither it nor the factors saw.
fn unused(
    sweep: &Sweep,
    spec: &DataSpec,
    how: &PreparationArgs,
    calibration: &Calibration,
    graph: &Graph,
) -> Outcome<Dataset> {
    let open = |split: &str| data::open(spec, graph, how, &split.parse::<Split>()?, None);
    let fitted = &sweep.data.calibration;
    let fitted = open(&fitted.split)?.calibration(fitted.images, sweep.seed)?;
    let all = open(&sweep.data.split)?;
    let swept = all.without(&[&fitted])?.limit(sweep.data.images)?;
    let unused = all.without(&[&fitted, &swept, calibration.inputs()])?;
    Ok(unused.limit(INPUTS)?)
}
