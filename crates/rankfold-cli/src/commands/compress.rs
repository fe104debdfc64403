mod factorize;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rankfold_data::Split;
use rankfold_graph::{CostModel, DType, Graph};
use rankfold_report::Goal;
use rankfold_torch::check_finite;
use serde_json::{Map, Value};

use self::factorize::{Workshop, read_plan};
use crate::accuracy::{self, Measured, Scores};
use crate::adjustment::AdjustmentArgs;
use crate::args::{DeviceArgs, ModelArgs, SimplifyArgs};
use crate::background::{self, Background};
use crate::budget::BudgetArgs;
use crate::calibration::{Calibration, CalibrationArgs};
use crate::failure::{Failure, Outcome};
use crate::folder::OutFolder;
use crate::interrupt;
use crate::model::{Loaded, load, simplified};
use crate::output::{note, say};
use crate::planning;
use crate::record::{Done, Record, Side};
use crate::sized::{Sized, number_bytes};
use crate::steps::{Change, Step, check_order};
use crate::training::TrainingArgs;
use crate::tuning::{FinetuneArgs, Tuition, Tuned};

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

    #[command(flatten)]
    adjustment: AdjustmentArgs,

    #[command(flatten)]
    finetune: FinetuneArgs,

    #[command(flatten)]
    training: TrainingArgs,

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
        accuracy::check(&loaded.graph, &self.calibration.data, &self.split)?;
        let given = self.plan.as_deref().map(read_plan).transpose()?;
        if let (Some(given), [Step::Factorize, ..]) = (&given, &self.steps[..]) {
            given.check(&loaded.graph)?;
        }
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
                        given: given.as_ref(),
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
        let measured = before.measured.is_some();
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
        match calibration {
            Some(own) if measured && own.measures_on_itself(&self.split) => note(
                "the file has no part of its own to measure on: accuracy is that on inputs that factors were \
                 fitted to; --calibrate-split 'train[:80%]' and --split 'test[80%:]' would part them",
            ),
            Some(_) if !measured => note(
                "the data have no labels, and accuracy is not measured: `rankfold compare` tells how far the \
                 models agree",
            ),
            _ => {}
        }
        out.tell();
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
            let given = [("a budget", budget), ("--finetune", self.finetune.is_on())];
            let given = given
                .into_iter()
                .find_map(|(what, given)| given.then_some(what));
            return match given.or(self.adjustment.given()) {
                None => Ok(()),
                Some(what) => Err(Failure::usage(format!(
                    "{what} is for the step `factorize`, which is not among --steps"
                ))
                .hint(format!("add `factorize` to --steps, or leave {what} out"))),
            };
        }
        if let (Some(what), None) = (self.adjustment.needs_inputs(), &self.calibration.data.data) {
            return Err(Failure::usage(format!("{what} runs the model on inputs"))
                .hint(format!("give --data KIND:PATH, or leave {what} out")));
        }
        match (&self.plan, self.budget.is_given()) {
            (Some(_), true) => Err(Failure::usage("a plan and a budget were given")
                .hint("give --plan, or a budget such as --params-removed 75%")),
            (None, false) => self.budget.check(),
            _ => Ok(()),
        }
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

    /// The limit of the whole network, where that is what was asked for.
    fn goal(&self, graph: &Graph, dtype: Option<DType>) -> Outcome<Option<Goal>> {
        if self.plan.is_some() || !self.budget.is_given() {
            return Ok(None);
        }
        let unit = number_bytes(graph, dtype);
        let request = self.budget.request(graph, unit)?;
        Ok(background::goal(&request, graph))
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
