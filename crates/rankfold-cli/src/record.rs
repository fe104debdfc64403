//! What was done, for the file, for `report.json` and for the eyes.

use rankfold_compress::{Form, Layer, Outcome as LayerOutcome, Plan, is_part_of, kept_cost};
use rankfold_graph::{Cost, CostModel, Graph};
use rankfold_report::{Goal, Layer as Row, Machine};
use serde_json::{Map, Value, json};

use crate::accuracy::Measured;
use crate::background::{Background, spectra};
use crate::calibration::Calibration;
use crate::failure::{Failure, Kind, Outcome};
use crate::folder::Written;
use crate::model::Loaded;
use crate::output::{bytes, grouped, percent, table};
use crate::steps::Step;

/// What a compressed file says of its making.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    plan: Plan,
    outcomes: Vec<LayerOutcome>,
    provenance: Value,
    adjustments: Value,
}

/// The command line at hand.
pub(crate) fn command_line() -> String {
    let arguments = std::env::args_os().map(|own| own.to_string_lossy().into_owned());
    arguments.collect::<Vec<_>>().join(" ")
}

/// One of the two models of a report.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) cost: Cost,
    pub(crate) file_bytes: Option<u64>,
    pub(crate) measured: Option<Measured>,
}

impl Side {
    /// The bytes of its file, or of its weights where it has none.
    fn stored_bytes(&self) -> u64 {
        self.file_bytes.unwrap_or(self.cost.bytes)
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "parameters": self.cost.parameters,
            "weights": self.cost.weights,
            "macs": self.cost.macs,
            "bytes": self.stored_bytes(),
        });
        match self.measured {
            Some(Measured::Classes(scores)) => {
                value["top1"] = json!(scores.top1);
                value["top1_se"] = json!(scores.top1_se);
                value["top5"] = json!(scores.top5);
                value["top5_se"] = json!(scores.top5_se);
                value["loss"] = json!(scores.loss);
                value["images"] = json!(scores.images);
            }
            Some(Measured::Numbers(error)) => value["rmse"] = json!(error),
            None => {}
        }
        value
    }
}

/// A step of making a model, for a row of the report.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    /// What it is called.
    pub(crate) step: &'static str,
    /// What it did, in words.
    pub(crate) did: String,
    /// The model after it; none where that is the one written.
    pub(crate) side: Option<Side>,
}

impl Record {
    pub(crate) fn new(
        loaded: &Loaded,
        plan: &Plan,
        outcomes: &[LayerOutcome],
        adjustments: Value,
        calibration: Option<&Calibration>,
    ) -> Outcome<Self> {
        let provenance = json!({
            "source": loaded.path.as_ref().map(|path| path.display().to_string()),
            "sha256": loaded.sha256()?,
            "rankfold": env!("CARGO_PKG_VERSION"),
            "request": plan.request,
            "seed": plan.seed,
            "calibration": calibration.map(Calibration::identity),
            "simplified": loaded.simplified.as_ref().map(|removed| json!({
                "batch_norms": removed.norms,
                "identities": removed.identities,
                "constants": removed.constants,
            })),
            "command": command_line(),
            "previous": loaded.record.get("provenance"),
        });
        Ok(Self {
            plan: plan.clone(),
            outcomes: outcomes.to_vec(),
            provenance,
            adjustments,
        })
    }

    /// What goes into the file beside the graph.
    pub(crate) fn stored(&self) -> Map<String, Value> {
        let mut stored = Map::new();
        stored.insert("plan".to_owned(), json!(self.plan));
        stored.insert("provenance".to_owned(), self.provenance.clone());
        stored
    }

    /// The report, once both models are measured.
    pub(crate) fn report(
        self,
        before: Side,
        after: Side,
        old: &Graph,
        new: &Written,
        background: Background,
    ) -> Report {
        let mut rows = rows(&self.plan, &self.outcomes, old, &new.graph);
        let mut spectra = spectra(old, &self.plan);
        for row in &mut rows {
            row.curves = background.curves(&row.name, &self.plan);
            let own = spectra.iter().position(|(name, _)| *name == row.name);
            row.spectrum = own.map(|place| spectra.swap_remove(place).1);
        }
        Report {
            before,
            after,
            rows,
            goal: background.goal,
            steps: background.steps,
            machine: background.machine,
            files: new.files.clone(),
            record: self,
        }
    }
}

/// Before and after.
#[derive(Debug)]
pub(crate) struct Report {
    before: Side,
    after: Side,
    rows: Vec<Row>,
    goal: Option<Goal>,
    steps: Vec<Done>,
    machine: Machine,
    files: Vec<(String, u64)>,
    record: Record,
}

fn rows(plan: &Plan, outcomes: &[LayerOutcome], old: &Graph, new: &Graph) -> Vec<Row> {
    let costs = new.costs(CostModel::True).unwrap_or_default();
    let of_layer = |name: &str| {
        let mut sum = Cost::default();
        for (node, cost) in new.nodes().iter().zip(&costs) {
            if is_part_of(&node.name, name) {
                sum += *cost;
            }
        }
        sum
    };
    Layer::all(old)
        .iter()
        .map(|layer| {
            let own = kept_cost(layer);
            let outcome = outcomes.iter().find(|outcome| outcome.name == layer.name);
            let distance = outcome.and_then(|outcome| outcome.distance);
            let after = of_layer(&layer.name);
            let node = old.nodes().iter().position(|node| node.name == layer.name);
            let before = node.and_then(|i| old.costs(CostModel::True).map(|costs| costs[i]));
            Row {
                name: layer.name.clone(),
                form: outcome.map_or(Form::Keep, |o| o.form),
                rank: outcome.and_then(|outcome| outcome.rank),
                shape: layer.shape.map(|size| size as u64),
                parameters: [
                    before.map_or(own.parameters, |c| c.parameters),
                    after.parameters,
                ],
                macs: [own.macs, after.macs],
                bytes: [before.map_or(0, |c| c.bytes), after.bytes],
                weight_error: distance.map(|d| d.weight),
                response_error: distance.and_then(|d| d.response),
                refused: (plan.layer(&layer.name)).map_or_else(Vec::new, |l| l.refused.clone()),
                spectrum: None,
                curves: Vec::new(),
            }
        })
        .collect()
}

impl Report {
    /// The report as JSON.
    pub(crate) fn json(&self) -> Outcome<String> {
        let files = self
            .files
            .iter()
            .map(|(name, bytes)| (name.clone(), json!(bytes)));
        let report = json!({
            "model": self.record.plan.model,
            "budget": self.goal,
            "machine": self.machine,
            "before": self.before.json(),
            "after": self.after.json(),
            "steps": self.steps().collect::<Vec<_>>(),
            "files": files.collect::<Map<String, Value>>(),
            "layers": self.rows,
            "adjustments": self.record.adjustments,
            "provenance": self.record.provenance,
        });
        serde_json::to_string_pretty(&report).map_err(|e| Failure::new(Kind::Inside, e))
    }

    /// The steps, each with the model after it.
    fn steps(&self) -> impl Iterator<Item = Value> {
        self.steps.iter().map(|done| {
            let mut row = done.side.as_ref().unwrap_or(&self.after).json();
            row["step"] = json!(done.step);
            row["did"] = json!(done.did);
            row
        })
    }

    /// The report as a table, layer by layer and in total.
    pub(crate) fn text(&self) -> String {
        let arrow = |[before, after]: [u64; 2]| match before == after {
            true => grouped(before),
            false => format!("{} → {}", grouped(before), grouped(after)),
        };
        let error = |row: &Row| match (row.error(), row.rank) {
            (Some(error), Some(_)) => format!("{error:.4}"),
            _ => String::new(),
        };
        let rows = self.rows.iter().map(|row| {
            vec![
                row.name.clone(),
                row.form.to_string(),
                row.rank.map(|rank| rank.to_string()).unwrap_or_default(),
                arrow(row.parameters),
                arrow(row.macs),
                bytes(row.bytes[1]),
                error(row),
            ]
        });
        let of_answers = |row: &Row| row.rank.is_some() && row.response_error.is_some();
        let header = [
            "layer",
            "form",
            "rank",
            "parameters",
            "MACs",
            "bytes",
            match self.rows.iter().any(of_answers) {
                true => "error of answers",
                false => "error of weights",
            },
        ];
        let layers = table(&header, &[0, 1], rows.collect());
        let steps = self.steps_text();
        format!("{layers}\n\n{steps}{}", self.totals())
    }

    /// The steps as a table, where there are several.
    fn steps_text(&self) -> String {
        if self.steps.len() < 2 {
            return String::new();
        }
        let rows = self.steps.iter().map(|done| {
            let side = done.side.as_ref().unwrap_or(&self.after);
            let top1 = match side.measured {
                Some(Measured::Classes(scores)) => {
                    format!("{:.2} ± {:.2} %", scores.top1, scores.top1_se)
                }
                _ => String::new(),
            };
            vec![
                done.step.to_owned(),
                done.did.clone(),
                grouped(side.cost.parameters),
                bytes(side.stored_bytes()),
                top1,
            ]
        });
        let header = ["step", "what it did", "parameters", "file", "top-1"];
        format!("{}\n\n", table(&header, &[0, 1], rows.collect()))
    }

    /// The times of both models, where the last step measured them.
    fn latency(&self) -> Option<Vec<String>> {
        let timed = self.record.adjustments.get("latency")?;
        let last = self.steps.last().map(|done| done.step);
        if last.is_some_and(|step| step != Step::Factorize.name()) {
            return None;
        }
        let number = |key: &str| timed[key].as_f64();
        Some(vec![
            format!("latency, batch {}", timed["batch"]),
            format!("{:.3} ms", number("before_ms")?),
            format!("{:.3} ms", number("after_ms")?),
            format!("×{:.2}", number("speedup")?),
        ])
    }

    /// Both models in total.
    pub(crate) fn totals(&self) -> String {
        let (before, after) = (&self.before, &self.after);
        let removed = |old: u64, new: u64| match new <= old {
            true => format!("{} % removed", percent(old - new, old)),
            false => format!("{} % added", percent(new - old, old)),
        };
        let line = |name: &str, old: u64, new: u64, text: &dyn Fn(u64) -> String| {
            vec![name.to_owned(), text(old), text(new), removed(old, new)]
        };
        let mut rows = vec![
            line(
                "parameters",
                before.cost.parameters,
                after.cost.parameters,
                &grouped,
            ),
            line("MACs", before.cost.macs, after.cost.macs, &grouped),
            line("file", before.stored_bytes(), after.stored_bytes(), &bytes),
        ];
        rows.extend(self.latency());
        if let (Some(Measured::Numbers(old)), Some(Measured::Numbers(new))) =
            (before.measured, after.measured)
        {
            rows.push(vec![
                "RMSE".to_owned(),
                format!("{old:.4}"),
                format!("{new:.4}"),
                format!("{:+.4}", new - old),
            ]);
        }
        if let (Some(Measured::Classes(old)), Some(Measured::Classes(new))) =
            (before.measured, after.measured)
        {
            let accuracy = |name: &str, old: [f64; 2], new: [f64; 2]| {
                vec![
                    name.to_owned(),
                    format!("{:.2} ± {:.2} %", old[0], old[1]),
                    format!("{:.2} ± {:.2} %", new[0], new[1]),
                    format!("{:+.2}", new[0] - old[0]),
                ]
            };
            rows.push(accuracy(
                "top-1",
                [old.top1, old.top1_se],
                [new.top1, new.top1_se],
            ));
            rows.push(accuracy(
                "top-5",
                [old.top5, old.top5_se],
                [new.top5, new.top5_se],
            ));
        }
        table(&["", "before", "after", ""], &[0], rows).to_string()
    }
}
