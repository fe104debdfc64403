use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use rankfold_compress::{
    Layer, LayerCurves, Outcome as LayerOutcome, Plan, Planned, Probe, Request, Statistics, apply,
    reconstruct,
};
use rankfold_data::Split;
use rankfold_decompose::Control;
use rankfold_finetune::{Event, FinetuneError, Recipe, Task, train};
use rankfold_graph::{CostModel, DType, Graph};
use rankfold_report::Goal;
use rankfold_torch::{TorchProbe, check_finite};
use serde_json::{Map, Value, json};

use crate::accuracy::{self, Measured, Scores};
use crate::args::{DeviceArgs, ModelArgs, SimplifyArgs};
use crate::background::{self, Background};
use crate::budget::BudgetArgs;
use crate::calibration::{Calibration, CalibrationArgs};
use crate::failure::{Failure, Outcome};
use crate::folder::OutFolder;
use crate::interrupt;
use crate::latency::Race;
use crate::model::{Loaded, load, simplified};
use crate::output::{note, say};
use crate::planning;
use crate::progress;
use crate::record::{Done, Record, Side};
use crate::sized::{Search, Sized, number_bytes};
use crate::steps::{Change, Step, check_order};
use crate::training::TrainingArgs;
use crate::tuning::{FinetuneArgs, Setting, Tuition, Tuned, Tuning};
use crate::verification::Verification;

/// Make a model smaller and write it with everything that is needed to use it
#[derive(Debug, Args)]
pub(crate) struct Compress {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    simplify: SimplifyArgs,

    #[command(flatten)]
    budget: BudgetArgs,

    /// A plan instead of a budget (see `rankfold plan`)
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,

    #[command(flatten)]
    calibration: CalibrationArgs,

    /// What is done to the model, in this order: prune-connections[=X|=thesis:X], cluster[=K|=decimals:N],
    /// factorize (by the budget) and quantize[=weights-only], each as the command of that name does it.
    /// quantize needs --data, unless it is for the weights only
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "factorize",
        value_name = "STEP,STEP"
    )]
    steps: Vec<Step>,

    /// Part of the data on which accuracy is measured before and after; where there are labels
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    split: Split,

    /// How much work accuracy is worth: best adds what --reconstruct and --distill do
    #[arg(long, value_enum, default_value = "normal")]
    effort: Effort,

    /// Fit the factors anew, layer by layer, to inputs from the already compressed network
    #[arg(long)]
    reconstruct: bool,

    /// Teach the compressed network to answer as the original, without labels: the steps, of 64 inputs
    /// each, and 0 for none; 600 with --effort best
    #[arg(long, value_name = "STEPS")]
    distill: Option<usize>,

    #[command(flatten)]
    finetune: FinetuneArgs,

    #[command(flatten)]
    training: TrainingArgs,

    /// Re-estimate batch-norm statistics: where it is measured to help, always, or never
    #[arg(long, value_enum, default_value = "auto")]
    recalibrate: Recalibrate,

    #[command(flatten)]
    device: DeviceArgs,

    /// The type in which weights are stored: f32 by default, and what it was in exported models
    #[arg(long, value_enum)]
    dtype: Option<DTypeArg>,

    /// The folder that is written
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Replace the folder if it is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Effort {
    /// Closed forms
    Normal,
    /// Also what takes longer
    Best,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Recalibrate {
    /// Where held-back inputs say that it helps
    Auto,
    /// Whether it helps or not
    Always,
    /// Not at all
    Never,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DTypeArg {
    /// 32-bit floats
    F32,
    /// IEEE half precision
    F16,
    /// The upper half of 32-bit floats
    Bf16,
}

impl From<DTypeArg> for DType {
    fn from(arg: DTypeArg) -> Self {
        match arg {
            DTypeArg::F32 => Self::F32,
            DTypeArg::F16 => Self::F16,
            DTypeArg::Bf16 => Self::BF16,
        }
    }
}

/// Steps of distillation with the best effort, and inputs of each.
const LESSONS: usize = 600;
const LESSON_INPUTS: usize = 64;

/// A network whose layers became smaller ones, and how.
struct Factored {
    change: Change,
    plan: Plan,
    curves: Vec<LayerCurves>,
    outcomes: Vec<LayerOutcome>,
    tuned: Option<Tuned>,
}

/// What `factorize` works with.
struct Workshop<'a> {
    out: &'a OutFolder,
    loaded: &'a Loaded,
    /// The network, after the steps before.
    graph: &'a Graph,
    /// Whether there were any.
    changed: bool,
    dtype: Option<DType>,
    calibration: Option<&'a Calibration>,
}

impl Compress {
    pub(crate) fn run(self) -> Outcome {
        self.check()?;
        let out = OutFolder::claim(&self.output, self.force)?;
        if self.training.restart {
            out.restart()?;
        }
        let mut loaded = self
            .simplify
            .apply(load(&self.model.model, &self.model.arch)?)?;
        check_finite(&loaded.graph)?;
        let dtype = self.stored_type(&loaded)?;
        let mut tuition = Tuition::open(
            &self.finetune,
            &self.training,
            &loaded.graph,
            (&self.calibration.data, &self.split),
            (self.budget.seed, self.device.resolve()?),
        )?;
        let calibration = Calibration::open(
            &self.calibration,
            &loaded.graph,
            &self.device,
            self.budget.seed,
        )?;
        let calibration = calibration.as_ref();
        let mut graph = loaded.graph.clone();
        let mut plan = planning::previous(&loaded, self.budget.seed);
        let (mut curves, mut outcomes, mut tuned) = (Vec::new(), Vec::new(), None);
        let (mut account, mut rows) = (Map::new(), Vec::new());
        for (place, &step) in self.steps.iter().enumerate() {
            let change = match step {
                Step::PruneConnections(rule) => Change::pruned(&graph, rule)?,
                Step::Cluster(clustering) => Change::clustered(&graph, clustering)?,
                Step::Quantize { weights_only } => {
                    let (plain, removed) = simplified(&graph)?;
                    loaded.simplified.get_or_insert(removed);
                    Change::quantized(&plain, calibration.filter(|_| !weights_only))?
                }
                Step::Factorize => {
                    let workshop = Workshop {
                        out: &out,
                        loaded: &loaded,
                        graph: &graph,
                        changed: place > 0,
                        dtype,
                        calibration,
                    };
                    let factored = self.factorize(&workshop, tuition.take())?;
                    (plan, curves) = (factored.plan, factored.curves);
                    (outcomes, tuned) = (factored.outcomes, factored.tuned);
                    factored.change
                }
            };
            let lost = change.lost_books(&graph);
            lost.iter().for_each(note);
            graph = change.graph;
            if let Value::Object(own) = change.account {
                account.extend(own);
            }
            let side = match place + 1 == self.steps.len() {
                true => None,
                false => {
                    let record = Record::new(&loaded, &plan, &[], Value::Null, calibration)?;
                    let bytes = out.measure(&graph, loaded.origin.as_ref(), &record, dtype)?;
                    Some(self.side(&graph, Some(bytes))?)
                }
            };
            rows.push(Done {
                step: change.step,
                did: [Some(change.did), lost]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("; "),
                side,
            });
            interrupt::check()?;
        }
        if self.steps == [Step::Factorize] {
            rows.clear();
        }
        let before = self.side(&loaded.graph, loaded.file_bytes())?;
        let record = Record::new(
            &loaded,
            &plan,
            &outcomes,
            Value::Object(account),
            calibration,
        )?;
        let origin = loaded.origin.as_ref();
        let model = out.write(&graph, origin, &plan, &record, dtype)?;
        if self.steps.last() == Some(&Step::Factorize)
            && let Some(last) = tuned.as_ref().and_then(Tuned::other_last)
        {
            out.also("last.safetensors", last, &record, dtype)?;
        }
        Sized::new(
            &out,
            &loaded,
            &loaded.graph,
            dtype,
            self.budget.size_limit(),
        )
        .check(&model)?;
        // What is reported is what was written: the file is read back and measured.
        let written = model.exported.as_ref().unwrap_or(&model.graph);
        let after = self.side(written, Some(model.file_bytes()))?;
        let background = Background {
            curves,
            goal: self.goal(&loaded.graph, dtype)?,
            steps: rows,
            machine: background::machine(self.device.resolve()?),
        };
        let report = record.report(before, after, &loaded.graph, &model, background);
        out.finish(&report)?;
        say(report.text())?;
        if let Some(tuned) = &tuned {
            tuned.notes.iter().for_each(note);
        }
        for text in &model.notes {
            note(text);
        }
        note(format!("wrote {}", self.output.display()));
        note(format!(
            "report: {}",
            self.output.join("report.html").display()
        ));
        Ok(())
    }

    /// An error where steps, budget and data do not go together.
    fn check(&self) -> Outcome {
        check_order(&self.steps)?;
        let calibrates = Step::Quantize {
            weights_only: false,
        };
        if self.steps.contains(&calibrates) && self.calibration.data.data.is_none() {
            return Err(Failure::usage(
                "`quantize` looks at what flows between layers, and needs data",
            )
            .hint("give --data KIND:PATH, or the step as quantize=weights-only"));
        }
        let budget = self.plan.is_some() || self.budget.is_given();
        if !self.steps.contains(&Step::Factorize) {
            let given = [
                ("a budget", budget),
                ("--finetune", self.finetune.is_on()),
                ("--effort best", self.effort == Effort::Best),
                ("--reconstruct", self.reconstruct),
                ("--distill", self.distill.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                None => Ok(()),
                Some((what, _)) => Err(Failure::usage(format!(
                    "{what} is for the step `factorize`, which is not among --steps"
                ))
                .hint(format!("add `factorize` to --steps, or leave {what} out"))),
            };
        }
        match (&self.plan, self.budget.is_given()) {
            (Some(_), true) => Err(Failure::usage("a plan and a budget were given")
                .hint("give --plan, or a budget such as --params-removed 75%")),
            (None, false) => self.budget.check(),
            _ => Ok(()),
        }
    }

    /// The network with its layers decomposed, as budget or plan say.
    fn factorize(
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
        let (plan, curves, mut compressed, outcomes, mut steps) = loop {
            let planned = self.plan(graph, dtype, &statistics, |request| {
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
            } = match planned {
                Ok(planned) => planned,
                Err(failure) => {
                    let failure = match &race {
                        Some(race) => race.refused(failure),
                        None => failure,
                    };
                    search.refused(failure)?;
                    continue;
                }
            };
            known = (!curves.is_empty()).then(|| Arc::from(&curves[..]));
            if let Some(race) = &mut race
                && !race.accepts(&plan)?
            {
                continue;
            }
            let store = out.store(
                loaded,
                workshop.changed.then_some(graph),
                &plan,
                calibration,
            )?;
            let (compressed, outcomes) = decompose(graph, &plan, &statistics, &store)?;
            if std::mem::take(&mut first) && store.resumed() > 0 {
                note(format!(
                    "{} layers were finished by an earlier run",
                    store.resumed()
                ));
            }
            if let Some(measured) = sized.overhead(&compressed, &plan, calibration)? {
                search.too_large(measured)?;
                continue;
            }
            let probe = probe.as_mut();
            let (compressed, mut steps) =
                self.adjust(graph, compressed, &plan, &statistics, probe)?;
            if let Some(verification) = &mut verification {
                if !verification.accepts(&compressed, expected)? {
                    continue;
                }
                steps["verified"] = verification.record();
            }
            break (plan, curves, compressed, outcomes, steps);
        };
        let setting = Setting {
            original: graph,
            plan: &plan,
            statistics: &statistics,
            seed: self.budget.seed,
        };
        let tuning = tuition
            .map(|tuition| tuition.of(setting, out))
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

    /// The type in which weights are stored; none where they keep their own.
    fn stored_type(&self, loaded: &Loaded) -> Outcome<Option<DType>> {
        match (&loaded.origin, self.dtype) {
            (None, dtype) => Ok(Some(dtype.map_or(DType::F32, DType::from))),
            (Some(_), None) => Ok(None),
            (Some(_), Some(_)) => Err(Failure::usage(
                "--dtype is not for an exported model, whose ops fix its types",
            )
            .hint("leave --dtype out, or export the model in that type")),
        }
    }

    fn plan(
        &self,
        graph: &Graph,
        dtype: Option<DType>,
        statistics: &Statistics,
        tell: impl FnOnce(&mut Request),
    ) -> Outcome<Planned> {
        let Some(path) = &self.plan else {
            let unit = number_bytes(graph, dtype);
            let mut request = self.budget.request(graph, unit)?;
            tell(&mut request);
            return planning::plan(graph, &request, statistics);
        };
        let text = std::fs::read_to_string(path).map_err(|e| Failure::io(path, &e))?;
        let plan = Plan::from_toml(&text)?;
        plan.check(graph)?;
        Ok(Planned {
            plan,
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

    /// The limit of the whole network, where that is what was asked for.
    fn goal(&self, graph: &Graph, dtype: Option<DType>) -> Outcome<Option<Goal>> {
        if self.plan.is_some() || !self.budget.is_given() {
            return Ok(None);
        }
        let unit = number_bytes(graph, dtype);
        let request = self.budget.request(graph, unit)?;
        Ok(background::goal(&request, graph))
    }

    /// What is done to the factored network as a whole. Each step stays only where inputs held back say
    /// that it brings the outputs closer to the original's, or where it was asked for.
    fn adjust(
        &self,
        original: &Graph,
        factored: Graph,
        plan: &Plan,
        statistics: &Statistics,
        probe: Option<&mut TorchProbe>,
    ) -> Outcome<(Graph, Value)> {
        let Some(probe) = probe else {
            let distilled = self.distill.is_some_and(|steps| steps > 0);
            if self.recalibrate == Recalibrate::Always || self.reconstruct || distilled {
                let options = "--reconstruct, --distill and --recalibrate";
                return Err(Failure::usage("this needs inputs to run the model on")
                    .hint(format!("give --data KIND:PATH, or leave {options} out")));
            }
            note("no data given: factors minimise weight errors, and accuracy is not measured");
            return Ok((factored, json!({ "data": false })));
        };
        let mut steps = Steps::new(factored, probe)?;
        if self.reconstruct || self.effort == Effort::Best {
            let graph = reconstructed(original, &steps.graph, plan, statistics, probe)?;
            steps.offer("reconstructed", graph, self.reconstruct, probe)?;
        }
        let best = self.effort == Effort::Best;
        let lessons = self.distill.unwrap_or(if best { LESSONS } else { 0 });
        if lessons > 0 {
            let graph = self.distilled(original, &steps, lessons, probe)?;
            steps.offer("distilled", graph, false, probe)?;
        }
        if self.recalibrate != Recalibrate::Never {
            let graph = probe.recalibrated(&steps.graph)?;
            let always = self.recalibrate == Recalibrate::Always;
            steps.offer("recalibrated", graph, always, probe)?;
        }
        Ok((steps.graph, Value::Object(steps.record)))
    }

    /// The network after learning from the original. What learning spoils is not taken.
    fn distilled(
        &self,
        original: &Graph,
        steps: &Steps,
        lessons: usize,
        probe: &TorchProbe,
    ) -> Outcome<Graph> {
        let recipe = Recipe {
            seed: self.budget.seed,
            device: self.device.resolve()?,
            ..Recipe::lessons(lessons, steps.divergence)
        };
        let loader = probe.lessons(LESSON_INPUTS)?;
        let task = Task {
            student: &steps.graph,
            teacher: Some(original),
            lessons: &loader,
            exam: None,
            recipe: &recipe,
            pace: &|_| Some(1.0),
        };
        let bar = progress::bar("distilling", lessons as u64);
        let learnt = train(&task, None, &mut |event| {
            if let Event::Step(now) = event {
                bar.set_position(now.step as u64);
                bar.set_message(format!("loss {:.3}", now.loss));
            }
            Ok(interrupt::flow())
        });
        bar.finish_and_clear();
        interrupt::check()?;
        match learnt {
            Err(error @ FinetuneError::Diverged { .. }) => {
                note(format!("distillation is left out: {error}"));
                Ok(steps.graph.clone())
            }
            learnt => Ok(learnt?.last),
        }
    }

    fn side(&self, graph: &Graph, file_bytes: Option<u64>) -> Outcome<Side> {
        let cost = graph.cost(CostModel::True).unwrap_or_default();
        Ok(Side {
            cost,
            file_bytes,
            measured: self.scores(graph)?.map(Measured::Classes),
        })
    }

    fn scores(&self, graph: &Graph) -> Outcome<Option<Scores>> {
        let device = self.device.resolve()?;
        accuracy::on(graph, &self.calibration.data, &self.split, device)
    }
}

/// The network as it stands, its divergence from the original, and what has been tried.
struct Steps {
    graph: Graph,
    divergence: f64,
    record: Map<String, Value>,
}

impl Steps {
    fn new(graph: Graph, probe: &mut TorchProbe) -> Outcome<Self> {
        let divergence = probe.divergence(&graph)?;
        let mut record = Map::new();
        record.insert("divergence".to_owned(), json!(divergence));
        Ok(Self {
            graph,
            divergence,
            record,
        })
    }

    /// Takes a changed network where it diverges less, or in any case.
    fn offer(&mut self, step: &str, graph: Graph, always: bool, probe: &mut TorchProbe) -> Outcome {
        interrupt::check()?;
        let divergence = probe.divergence(&graph)?;
        let taken = always || divergence < self.divergence;
        let entry = json!({ "divergence": divergence, "taken": taken });
        self.record.insert(step.to_owned(), entry);
        if taken {
            self.graph = graph;
            self.divergence = divergence;
        }
        Ok(())
    }
}

fn reconstructed(
    original: &Graph,
    factored: &Graph,
    plan: &Plan,
    statistics: &Statistics,
    probe: &mut TorchProbe,
) -> Outcome<Graph> {
    let bar = progress::bar("refitting", Layer::all(original).len() as u64);
    let finished = |name: &str| {
        bar.inc(1);
        bar.set_message(name.to_owned());
    };
    let control = Control::default().cancel_with(interrupt::flag());
    let done = reconstruct(
        original, factored, plan, statistics, probe, control, &finished,
    );
    bar.finish_and_clear();
    interrupt::check()?;
    Ok(done?)
}

fn decompose(
    graph: &Graph,
    plan: &Plan,
    statistics: &Statistics,
    store: &dyn rankfold_compress::FactorStore,
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
