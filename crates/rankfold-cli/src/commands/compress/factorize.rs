//! The step `factorize`: a plan is searched until the budget is kept, its layers are decomposed, and what
//! comes out is trained where that was asked for.

use std::path::Path;
use std::sync::Arc;

use rankfold_compress::{
    FactorStore, Layer, LayerCurves, Outcome as LayerOutcome, Plan, Planned, Request, Statistics,
    apply,
};
use rankfold_decompose::Control;
use rankfold_graph::{DType, Graph};
use rankfold_torch::TorchProbe;
use serde_json::json;

use super::Compress;
use crate::calibration::Calibration;
use crate::failure::{Failure, Outcome};
use crate::folder::OutFolder;
use crate::interrupt;
use crate::latency::Race;
use crate::model::Loaded;
use crate::output::note;
use crate::planning;
use crate::progress;
use crate::sized::{Search, Sized, number_bytes};
use crate::steps::{Change, Step};
use crate::tuning::{Setting, Tuition, Tuned, Tuning};
use crate::verification::Verification;

/// A network whose layers became smaller ones, and how.
pub(super) struct Factored {
    pub(super) change: Change,
    pub(super) plan: Plan,
    pub(super) curves: Vec<LayerCurves>,
    pub(super) outcomes: Vec<LayerOutcome>,
    pub(super) tuned: Option<Tuned>,
}

/// What `factorize` works with.
pub(super) struct Workshop<'a> {
    pub(super) out: &'a OutFolder,
    pub(super) loaded: &'a Loaded,
    /// The network, after the steps before.
    pub(super) graph: &'a Graph,
    /// Whether there were any.
    pub(super) changed: bool,
    /// A plan that was given in place of a budget.
    pub(super) given: Option<&'a Plan>,
    pub(super) dtype: Option<DType>,
    pub(super) calibration: Option<&'a Calibration>,
}

impl Compress {
    /// The network with its layers decomposed, as budget or plan say.
    pub(super) fn factorize(
        &self,
        workshop: &Workshop<'_>,
        tuition: Option<Tuition<'_>>,
    ) -> Outcome<Factored> {
        let &Workshop {
            out,
            loaded,
            graph,
            dtype,
            calibration,
            ..
        } = workshop;
        let mut probe = calibration
            .map(|calibration| calibration.probe(graph))
            .transpose()?;
        let looks = probe.as_mut().filter(|_| !self.budget.is_of_weights());
        let statistics = planning::statistics(graph, looks)?;
        let sized = Sized::new(out, loaded, graph, dtype, self.budget.size_limit());
        let mut search = Search::default();
        let mut first = true;
        let mut known = None;
        let mut race = self.race(graph)?;
        let mut verification = self.verification(graph, calibration, probe.as_ref())?;
        let device = self.device.resolve()?;
        let (plan, curves, mut compressed, outcomes, mut steps) = loop {
            let planned = self.plan(workshop, &statistics, |request| {
                request.overhead = search.overhead();
                if let Some(verification) = &verification {
                    request.budget = verification.budget();
                }
                if let Some(race) = &race {
                    race.tell(request);
                }
                request.known = known.clone();
            });
            let Planned {
                plan,
                curves,
                expected,
            } = match (planned, &mut race) {
                (Ok(planned), None) => planned,
                (Ok(planned), Some(race)) => {
                    known = Some(Arc::from(&planned.curves[..]));
                    match race.judge(planned.plan)? {
                        Some(plan) => Planned { plan, ..planned },
                        None => continue,
                    }
                }
                (Err(failure), Some(race)) => Planned {
                    plan: race.refused(failure)?,
                    curves: known.as_deref().unwrap_or_default().to_vec(),
                    expected: None,
                },
                (Err(failure), None) => {
                    search.refused(failure)?;
                    continue;
                }
            };
            known = (!curves.is_empty()).then(|| Arc::from(&curves[..]));
            let store = out.store(
                loaded,
                workshop.changed.then_some(graph),
                &plan,
                calibration,
            )?;
            let (compressed, outcomes) = decompose(graph, &plan, &statistics, &store)?;
            if std::mem::take(&mut first) {
                match store.resumed() {
                    0 => {}
                    1 => note("1 layer was finished by an earlier run"),
                    n => note(format!("{n} layers were finished by an earlier run")),
                }
            }
            if let Some(measured) = sized.overhead(&compressed, &plan, calibration)? {
                search.too_large(measured)?;
                continue;
            }
            let probe = probe.as_mut();
            let setting = self.setting(graph, &plan, &statistics);
            let (compressed, mut steps) = self
                .adjustment
                .adjust(&setting, compressed, device, probe)?;
            if let Some(verification) = &mut verification {
                if !verification.accepts(&compressed, expected)? {
                    continue;
                }
                steps["verified"] = verification.record();
            }
            break (plan, curves, compressed, outcomes, steps);
        };
        let tuning = tuition
            .map(|tuition| tuition.of(self.setting(graph, &plan, &statistics), out))
            .transpose()?;
        if tuning.as_ref().is_some_and(Tuning::is_staged) {
            // Layers are decomposed on the way, so nothing of the network at hand is used.
            compressed = graph.clone();
            steps = json!({ "data": true });
        }
        let mut tuned = tuning.map(|tuning| tuning.run(&compressed)).transpose()?;
        if let (Some(tuned), Some(steps)) = (&mut tuned, steps.as_object_mut()) {
            compressed = tuned.graph.clone();
            let account = tuned.account(|graph| self.scores(graph))?;
            steps.insert("training".to_owned(), account);
        }
        if let (Some(race), Some(steps)) = (&race, steps.as_object_mut()) {
            let source = self.model.model.display().to_string();
            steps.insert(
                "latency".to_owned(),
                race.finish(&compressed, &source, out)?,
            );
        }
        let decomposed = outcomes.iter().filter(|outcome| outcome.rank.is_some());
        let did = format!(
            "{} of {} layers decomposed",
            decomposed.count(),
            Layer::all(graph).len()
        );
        Ok(Factored {
            change: Change {
                graph: compressed,
                step: Step::Factorize.name(),
                account: steps,
                did,
            },
            plan,
            curves,
            outcomes,
            tuned,
        })
    }

    fn setting<'a>(
        &self,
        original: &'a Graph,
        plan: &'a Plan,
        statistics: &'a Statistics,
    ) -> Setting<'a> {
        Setting {
            original,
            plan,
            statistics,
            seed: self.budget.seed,
        }
    }

    fn plan(
        &self,
        workshop: &Workshop<'_>,
        statistics: &Statistics,
        tell: impl FnOnce(&mut Request),
    ) -> Outcome<Planned> {
        let graph = workshop.graph;
        let Some(given) = workshop.given else {
            let unit = number_bytes(graph, workshop.dtype);
            let mut request = self.budget.request(graph, unit)?;
            tell(&mut request);
            return planning::plan(graph, &request, statistics);
        };
        given.check(graph)?;
        Ok(Planned {
            plan: given.clone(),
            curves: Vec::new(),
            expected: None,
        })
    }

    /// The search for a fast model, where time is the budget.
    fn race(&self, graph: &Graph) -> Outcome<Option<Race>> {
        if self.plan.is_some() {
            return Ok(None);
        }
        let request = self.budget.request(graph, 4)?;
        Race::open(
            &request,
            &self.budget.latency,
            graph,
            self.device.resolve()?,
        )
    }

    /// The search for the smallest model, where the budget is what it may lose.
    fn verification(
        &self,
        graph: &Graph,
        calibration: Option<&Calibration>,
        probe: Option<&TorchProbe>,
    ) -> Outcome<Option<Verification>> {
        let (Some(limit), None) = (self.budget.max_drop(), &self.plan) else {
            return Ok(None);
        };
        let request = self.budget.request(graph, 4)?;
        let data = &self.calibration.data;
        let given = request
            .evidence
            .zip(data.data.as_ref())
            .zip(calibration)
            .zip(probe);
        let Some((((evidence, spec), calibration), probe)) = given else {
            return Err(Failure::usage("--max-drop is verified by measuring")
                .hint("give the sweep's --data KIND:PATH too"));
        };
        let how = &data.how;
        Verification::new(
            limit / 100.0,
            &evidence,
            spec,
            how,
            calibration,
            probe,
            graph,
        )
        .map(Some)
    }
}

/// The plan in a file.
pub(super) fn read_plan(path: &Path) -> Outcome<Plan> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io(path, &e))?;
    Ok(Plan::from_toml(&text)?)
}

fn decompose(
    graph: &Graph,
    plan: &Plan,
    statistics: &Statistics,
    store: &dyn FactorStore,
) -> Outcome<(Graph, Vec<LayerOutcome>)> {
    let changed = plan.layers.iter().filter(|layer| layer.rank.is_some());
    let bar = progress::bar("decomposing", changed.count() as u64);
    let finished = |name: &str| {
        bar.inc(1);
        bar.set_message(name.to_owned());
    };
    let control = Control::default().cancel_with(interrupt::flag());
    let done = apply(graph, plan, statistics, store, control, &finished);
    bar.finish_and_clear();
    interrupt::check()?;
    Ok(done?)
}
