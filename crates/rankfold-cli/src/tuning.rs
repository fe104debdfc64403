//! Training within `compress`: stages of decomposition, the original as a teacher, and a control.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rankfold_compress::{NoStore, Plan, Statistics, apply};
use rankfold_data::Split;
use rankfold_decompose::Control;
use rankfold_finetune::{Graduate, Length, Order, Recipe, Stage, random_factors, stages};
use rankfold_graph::Graph;
use rankfold_torch::Device;
use serde_json::{Value, json};

use crate::accuracy::Scores;
use crate::args::DataArgs;
use crate::failure::{Failure, Outcome};
use crate::folder::OutFolder;
use crate::interrupt;
use crate::training::{
    Choice, Material, RecipeArg, Training, TrainingArgs, account, chosen_note, epochs, weights_hash,
};

/// Whether and in which order a network is trained while it is compressed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Training")]
pub(crate) struct FinetuneArgs {
    /// Train the compressed network, by default to answer as the original does
    #[arg(long, value_enum, default_value = "none", value_name = "HOW")]
    finetune: OrderArg,

    /// Layers that are decomposed before each training, as 4,4,2; the last number repeats
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    group: Vec<usize>,

    /// What factors are at first: those of the decomposition, or random numbers
    #[arg(long, value_enum, default_value = "factors")]
    init: InitArg,

    /// Learn from labels instead of the original's answers
    #[arg(long)]
    no_teacher: bool,

    /// Train the original too, from labels, for as many epochs, and say what that gives
    #[arg(long)]
    control: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OrderArg {
    /// No training
    None,
    /// All layers are decomposed first
    Oneshot,
    /// After every layer
    Iterative,
    /// After every convolution, and once after all fully connected layers (Astrid and Lee)
    Hybrid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InitArg {
    /// Those of the decomposition
    Factors,
    /// Random numbers
    Random,
}

impl FinetuneArgs {
    pub(crate) fn is_on(&self) -> bool {
        self.finetune != OrderArg::None
    }

    fn order(&self) -> Order {
        match self.finetune {
            OrderArg::None | OrderArg::Oneshot => Order::OneShot,
            OrderArg::Iterative => Order::Iterative,
            OrderArg::Hybrid => Order::Hybrid,
        }
    }
}

/// What is compressed, and with what.
pub(crate) struct Setting<'a> {
    pub(crate) original: &'a Graph,
    pub(crate) plan: &'a Plan,
    pub(crate) statistics: &'a Statistics,
    pub(crate) seed: u64,
}

/// How, and from what, a network will be trained; known before any work is done.
pub(crate) struct Tuition<'a> {
    args: &'a FinetuneArgs,
    training: &'a TrainingArgs,
    recipe: Recipe,
    material: Material,
}

/// A training that is ready to run.
pub(crate) struct Tuning<'a> {
    tuition: Tuition<'a>,
    setting: Setting<'a>,
    stages: Vec<Stage>,
    folders: [PathBuf; 2],
    metrics: PathBuf,
}

/// A compressed network after its training.
pub(crate) struct Tuned {
    pub(crate) graph: Graph,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
    graduate: Graduate,
    epoch: Option<usize>,
    account: Value,
    control: Option<Graph>,
    epochs: usize,
}

impl<'a> Tuition<'a> {
    /// The training that was asked for; none where there is to be none.
    pub(crate) fn open(
        args: &'a FinetuneArgs,
        training: &'a TrainingArgs,
        graph: &Graph,
        (data, reported): (&DataArgs, &Split),
        (seed, device): (u64, Device),
    ) -> Outcome<Option<Self>> {
        if !args.is_on() {
            return Ok(None);
        }
        if args.group.contains(&0) {
            return Err(Failure::usage(
                "expected groups of at least one layer, found 0",
            ));
        }
        let default = match args.no_teacher {
            true => Recipe::labels(),
            false => Recipe::default(),
        };
        let base = training.recipe.of(default, graph);
        let recipe = training.recipe(base, seed, device)?;
        let material = Material::open(training, data, graph, Some(reported), seed)?;
        material.check_labels(&recipe)?;
        Ok(Some(Self {
            args,
            training,
            recipe,
            material,
        }))
    }

    /// The training of what a plan makes of a network.
    pub(crate) fn of(self, setting: Setting<'a>, out: &OutFolder) -> Outcome<Tuning<'a>> {
        let (order, group) = (self.args.order(), &self.args.group);
        let stages = stages(setting.original, setting.plan, order, group);
        if stages.is_empty() {
            return Err(
                Failure::usage("the plan changes no layer, and there is nothing to train")
                    .hint("leave --finetune out, or use `rankfold finetune`"),
            );
        }
        Ok(Tuning {
            tuition: self,
            setting,
            stages,
            folders: [out.course("compressed"), out.course("control")],
            metrics: out.file("metrics.jsonl"),
        })
    }
}

impl Tuning<'_> {
    /// Whether layers are decomposed while the training goes on.
    pub(crate) fn is_staged(&self) -> bool {
        self.tuition.args.order() != Order::OneShot
    }

    fn is_taught(&self) -> bool {
        self.tuition.training.recipe == RecipeArg::Default && !self.tuition.args.no_teacher
    }

    /// Trains from `start`: the compressed network, or the original where layers are decomposed on the
    /// way.
    pub(crate) fn run(self, start: &Graph) -> Outcome<Tuned> {
        let taught = self.is_taught();
        let training = Training {
            args: self.tuition.training,
            network: "compressed",
            doing: "training",
            stages: &self.stages,
            decomposed: &[],
            teacher: taught.then_some(self.setting.original),
            material: &self.tuition.material,
            recipe: &self.tuition.recipe,
            folder: self.folders[0].clone(),
            metrics: self.metrics.clone(),
            identity: vec![
                ("model", weights_hash(self.setting.original)),
                ("start", weights_hash(start)),
                ("plan", self.setting.plan.to_toml()),
                ("first factors", format!("{:?}", self.tuition.args.init)),
            ],
        };
        let graduate = training.go_through(start, |graph, stage| self.decompose(graph, stage))?;
        let (graph, epoch) = Choice::of(self.tuition.training, taught).take(&graduate);
        let epochs = epochs(&graduate);
        let control = match self.tuition.args.control {
            true => Some(self.control(epochs)?),
            false => None,
        };
        let chosen = epoch.map(|epoch| chosen_note(epoch, &self.tuition.material));
        Ok(Tuned {
            account: account(
                &graduate,
                &self.tuition.recipe,
                &self.tuition.material,
                epoch,
            ),
            notes: chosen.into_iter().collect(),
            graph,
            graduate,
            epoch,
            control,
            epochs,
        })
    }

    /// The network with the layers of a stage decomposed as it now is.
    fn decompose(&self, graph: &Graph, stage: &Stage) -> Outcome<Graph> {
        let Setting {
            plan,
            statistics,
            seed,
            ..
        } = self.setting;
        let graph = match self.is_staged() {
            false => graph.clone(),
            true => {
                let mut now = Plan::new(graph, plan.request.clone(), plan.seed);
                let layers = plan.layers.iter();
                now.layers = layers
                    .filter(|l| stage.layers.contains(&l.name))
                    .cloned()
                    .collect();
                let control = Control::default().cancel_with(interrupt::flag());
                let done = apply(graph, &now, statistics, &NoStore, control, &|_| ());
                interrupt::check()?;
                done?.0
            }
        };
        match self.tuition.args.init {
            InitArg::Factors => Ok(graph),
            InitArg::Random => Ok(random_factors(&graph, &stage.layers, seed)?),
        }
    }

    /// The original after as many epochs from labels.
    fn control(&self, epochs: usize) -> Outcome<Graph> {
        let recipe = Recipe {
            length: Length::Epochs(epochs),
            label_weight: 1.0,
            mixed: 0.0,
            ..self.tuition.recipe.clone()
        };
        self.tuition.material.check_labels(&recipe)?;
        let original = self.setting.original;
        let training = Training {
            args: self.tuition.training,
            network: "control",
            doing: "control",
            stages: &[Stage::training()],
            decomposed: &[],
            teacher: None,
            material: &self.tuition.material,
            recipe: &recipe,
            folder: self.folders[1].clone(),
            metrics: self.metrics.clone(),
            identity: vec![("model", weights_hash(original))],
        };
        let graduate = training.go_through(original, |graph, _| Ok(graph.clone()))?;
        Ok(Choice::of(self.tuition.training, false).take(&graduate).0)
    }
}

impl Tuned {
    /// The network of the last epoch, where another is used.
    pub(crate) fn other_last(&self) -> Option<&Graph> {
        self.epoch.map(|_| &self.graduate.last)
    }

    /// What the report says, the control measured.
    pub(crate) fn account(
        &mut self,
        scores: impl Fn(&Graph) -> Outcome<Option<Scores>>,
    ) -> Outcome<Value> {
        let mut account = self.account.clone();
        let control = self.control.as_ref().map(scores).transpose()?.flatten();
        if let (Some(scores), Some(account)) = (control, account.as_object_mut()) {
            self.notes.push(format!(
                "control: the original after {} epochs from labels has {:.2} ± {:.2} % top-1",
                self.epochs, scores.top1, scores.top1_se
            ));
            account.insert("control".to_owned(), json!(scores));
        }
        Ok(account)
    }
}
