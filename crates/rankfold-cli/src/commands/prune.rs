use clap::Args;
use rankfold_compress::{Criterion, prune_connections};
use rankfold_data::Split;
use rankfold_finetune::Recipe;
use rankfold_graph::Graph;
use rankfold_torch::Device;

use crate::args::{DataArgs, ModelArgs};
use crate::failure::{Failure, Outcome};
use crate::folder::OutFolder;
use crate::model::load;
use crate::planning;
use crate::pruning::{CycleArgs, Cycles, RuleArgs, School, account, zeros_line};
use crate::trained::{Finish, Made, RunArgs};
use crate::training::{Material, RecipeArg, sample};

/// Remove channels that activations hardly use, in cycles of training, or set small weights to zero
#[derive(Debug, Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    rule: RuleArgs,

    #[command(flatten)]
    cycles: CycleArgs,

    #[command(flatten)]
    data: DataArgs,

    /// Part of the data on which accuracy is measured before and after; where there are labels
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    split: Split,

    #[command(flatten)]
    run: RunArgs,
}

impl Prune {
    pub(crate) fn run(self) -> Outcome {
        let (criterion, rule) = (self.rule.criterion()?, self.rule.connections()?);
        if criterion.is_none() && rule.is_none() {
            return Err(Failure::usage("nothing to prune was named")
                .hint("give --nodes activation-variance, --connections, or both"));
        }
        self.cycles.check(!self.run.training.is_nothing())?;
        let device = self.run.device.resolve()?;
        let finish = Finish::claim(&self.run)?;
        let loaded = load(&self.model.model, &self.model.arch)?;
        let recipe = self.recipe(&loaded.graph, device)?;
        let start = &loaded.graph;
        let pruned = match criterion {
            None => None,
            Some(criterion) => {
                let cycles = self.cycles(criterion, start, (&finish.out, device), &recipe)?;
                Some(cycles.run(start)?)
            }
        };
        let graph = pruned.as_ref().map_or(start, |pruned| &pruned.graph);
        let zeroed = rule
            .map(|rule| prune_connections(graph, rule))
            .transpose()?;
        let made = Made {
            graph: zeroed.as_ref().map_or(graph, |(graph, _)| graph),
            last: pruned.as_ref().and_then(|pruned| pruned.last.as_ref()),
            steps: account(
                start,
                pruned.as_ref(),
                zeroed.as_ref().map(|(_, zeros)| &zeros[..]),
            ),
            notes: zeroed.iter().map(|(_, zeros)| zeros_line(zeros)).collect(),
        };
        let plan = planning::previous(&loaded, self.run.seed);
        let aim = self.run.training.aim();
        finish.put(&loaded, &plan, made, device, |graph| {
            crate::accuracy::at(aim, graph, &self.data, &self.split, device)
        })
    }

    fn is_taught(&self) -> bool {
        self.run.training.recipe == RecipeArg::Default && !self.cycles.no_teacher
    }

    /// How the network is trained; none where it is not.
    fn recipe(&self, graph: &Graph, device: Device) -> Outcome<Option<Recipe>> {
        let training = &self.run.training;
        if training.is_nothing() {
            return Ok(None);
        }
        let default = match self.is_taught() {
            true => Recipe::default(),
            false => Recipe::labels(),
        };
        let base = training.recipe.of(default, graph);
        training.recipe(base, self.run.seed, device).map(Some)
    }

    fn cycles<'a>(
        &'a self,
        criterion: Criterion,
        graph: &'a Graph,
        (out, device): (&'a OutFolder, Device),
        recipe: &'a Option<Recipe>,
    ) -> Outcome<Cycles<'a>> {
        Cycles::check(graph)?;
        let (training, seed) = (&self.run.training, self.run.seed);
        let samples = sample(training, &self.data, graph, self.cycles.samples.get())?;
        let school = |recipe: &'a Recipe| -> Outcome<School<'a>> {
            let material = Material::open(training, &self.data, graph, Some(&self.split), seed)?;
            material.check_labels(recipe)?;
            Ok(School {
                args: training,
                recipe,
                material,
                teacher: self.is_taught().then_some(graph),
                out,
            })
        };
        Ok(Cycles {
            args: &self.cycles,
            criterion,
            school: recipe.as_ref().map(school).transpose()?,
            samples,
            device,
            seed,
        })
    }
}
