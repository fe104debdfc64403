use std::str::FromStr;

use clap::Args;
use rankfold_compress::Plan;
use rankfold_data::Split;
use rankfold_finetune::{Recipe, Stage};
use rankfold_graph::{CostModel, Graph};
use rankfold_zoo::{InitialWeights, Options};

use crate::args::DataArgs;
use crate::failure::{Failure, Kind, Outcome};
use crate::model::Loaded;
use crate::output::note;
use crate::trained::{Finish, RunArgs};
use crate::training::{Choice, Material, Training};

/// Train a network of the zoo from scratch
#[derive(Debug, Args)]
pub(crate) struct Train {
    /// The network (see `rankfold zoo`)
    #[arg(value_name = "NAME")]
    network: String,

    #[command(flatten)]
    data: DataArgs,

    /// Part of the data on which accuracy is measured at the end
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    split: Split,

    /// Height and width of the input
    #[arg(long, value_name = "PIXELS")]
    input_side: Option<usize>,

    /// Classes; those of the data by default
    #[arg(long, value_name = "N")]
    num_classes: Option<usize>,

    /// Inner width of the LightLayers networks; auto for the widest that --parameters allows
    #[arg(long, value_name = "K|auto")]
    k: Option<InnerWidth>,

    /// The most parameters, running statistics counted, that --k auto may use
    #[arg(long, value_name = "N")]
    parameters: Option<u64>,

    #[command(flatten)]
    run: RunArgs,
}

/// A width, or the widest that fits.
#[derive(Debug, Clone, Copy)]
enum InnerWidth {
    Fixed(usize),
    Widest,
}

impl FromStr for InnerWidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Widest),
            (_, Ok(width)) => Ok(Self::Fixed(width)),
            _ => Err("expected a width, or auto".to_owned()),
        }
    }
}

impl Train {
    pub(crate) fn run(self) -> Outcome {
        let device = self.run.device.resolve()?;
        let finish = Finish::claim(&self.run)?;
        let graph = self.network()?;
        let base = self.run.training.recipe.of(Recipe::scratch(), &graph);
        let recipe = self.run.training.recipe(base, self.run.seed, device)?;
        let material = Material::open(
            &self.run.training,
            &self.data,
            &graph,
            Some(&self.split),
            self.run.seed,
        )?;
        material.check_labels(&recipe)?;
        let plan = Plan::new(&graph, "nothing".to_owned(), self.run.seed);
        let training = Training {
            args: &self.run.training,
            network: "model",
            doing: "training",
            stages: &[Stage::training()],
            decomposed: &[],
            teacher: None,
            material: &material,
            recipe: &recipe,
            folder: finish.out.course("model"),
            metrics: finish.out.file("metrics.jsonl"),
            identity: vec![("network", graph.meta().name.clone())],
        };
        let graduate = training.go_through(&graph, |graph, _| Ok(graph.clone()))?;
        finish.write(
            &Loaded::made(graph),
            &plan,
            &graduate,
            (Choice::Best, &recipe, &material),
            |graph| crate::accuracy::at(recipe.aim, graph, &self.data, &self.split, device),
        )
    }

    /// The network with its first weights, and as many classes as the data have.
    fn network(&self) -> Outcome<Graph> {
        let mut options = Options {
            num_classes: self.num_classes,
            input_side: self.input_side,
            weights: InitialWeights::Seeded(self.run.seed),
            ..Options::default()
        };
        let numbers = !rankfold_zoo::find(&self.network)?.tells_classes();
        if self.num_classes.is_none() && !numbers {
            options.num_classes = self.classes(&options)?;
        }
        options.k = match (self.k, self.parameters) {
            (Some(InnerWidth::Widest), Some(most)) => Some(self.widest(&options, most)?),
            (Some(InnerWidth::Fixed(width)), None) => Some(width),
            (None, None) => None,
            _ => {
                return Err(Failure::usage("--k auto and --parameters go together")
                    .hint("give both, or a number to --k"));
            }
        };
        Ok(rankfold_zoo::build(&self.network, &options)?)
    }

    /// The classes of the data.
    fn classes(&self, options: &Options) -> Outcome<Option<usize>> {
        let spec = crate::data::spec(&self.data, "training")?;
        let graph = rankfold_zoo::build(&self.network, options)?;
        let data = crate::data::unchecked(spec, &graph, &self.data.how, &self.split)?;
        Ok(data.classes())
    }

    /// The largest inner width with which the network has at most so many parameters.
    fn widest(&self, options: &Options, most: u64) -> Outcome<usize> {
        let parameters = |width: usize| -> Outcome<u64> {
            let options = Options {
                k: Some(width),
                weights: InitialWeights::Zeros,
                ..options.clone()
            };
            let graph = rankfold_zoo::build(&self.network, &options)?;
            let cost = graph.cost(CostModel::True).unwrap_or_default();
            Ok(cost.parameters_with_buffers)
        };
        let least = parameters(1)?;
        if least > most {
            return Err(Failure::new(
                Kind::Unmet,
                format!(
                    "{} has {least} parameters at the least, with --k 1",
                    self.network
                ),
            )
            .hint("give more --parameters"));
        }
        let mut width = 1;
        while parameters(width + 1)? <= most {
            width += 1;
        }
        let used = parameters(width)?;
        note(format!("k = {width}: {used} parameters of at most {most}"));
        Ok(width)
    }
}
