use clap::Args;
use rankfold_compress::Plan;
use rankfold_data::Split;
use rankfold_finetune::{Recipe, Stage};
use rankfold_graph::Graph;
use rankfold_zoo::{InitialWeights, Options};

use crate::args::DataArgs;
use crate::failure::{Failure, Outcome};
use crate::model::Loaded;
use crate::trained::{Finish, RunArgs};
use crate::training::{Choice, Material, RecipeArg, Training};

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

    #[command(flatten)]
    run: RunArgs,
}

impl Train {
    pub(crate) fn run(self) -> Outcome {
        let device = self.run.device.resolve()?;
        let base = match self.run.training.recipe {
            RecipeArg::Paper => Recipe::paper(),
            RecipeArg::Default => Recipe::scratch(),
        };
        let recipe = self.run.training.recipe(base, self.run.seed, device)?;
        let finish = Finish::claim(&self.run)?;
        let graph = self.network()?;
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
        let options = Options {
            num_classes: self.num_classes,
            input_side: self.input_side,
            weights: InitialWeights::Seeded(self.run.seed),
            ..Options::default()
        };
        let graph = rankfold_zoo::build(&self.network, &options)?;
        let Some(spec) = &self.data.data else {
            return Err(Failure::usage("training needs data")
                .hint("give --data KIND:PATH, or --data shapes"));
        };
        let numbers = !rankfold_zoo::find(&self.network)?.tells_classes();
        if self.num_classes.is_some() || numbers {
            return Ok(graph);
        }
        let data = crate::data::unchecked(spec, &graph, &self.data.how, &self.split)?;
        let num_classes = data.classes();
        Ok(rankfold_zoo::build(
            &self.network,
            &Options {
                num_classes,
                ..options
            },
        )?)
    }
}
