use clap::Args;
use rankfold_compress::Criterion;
use rankfold_data::Split;
use rankfold_finetune::Recipe;
use rankfold_graph::Graph;
use rankfold_torch::Device;

use crate::args::{DataArgs, ModelArgs};
use crate::failure::{Failure, Outcome};
use crate::folder::OutFolder;
use crate::model::load;
use crate::planning;
use crate::pruning::{CycleArgs, Cycles, RuleArgs, School, Thinned, account, told};
use crate::record::Done;
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
        self.cycles
            .check(criterion.is_some() && !self.run.training.is_nothing())?;
        let device = self.run.device.resolve()?;
        let finish = Finish::claim(&self.run)?;
        let loaded = load(&self.model.model, &self.model.arch)?;
        let recipe = self.recipe(&loaded.graph, device)?;
        let start = &loaded.graph;
        if criterion.is_some() {
            Cycles::check(start)?;
        }
        let school = recipe
            .as_ref()
            .map(|recipe| self.school(start, &finish.out, recipe))
            .transpose()?;
        let pruned = match criterion {
            None => None,
            Some(criterion) => {
                let cycles = self.cycles(criterion, start, school.as_ref(), device)?;
                Some(cycles.run(start)?)
            }
        };
        let graph = pruned.as_ref().map_or(start, |pruned| &pruned.graph);
        let thinned = rule
            .map(|rule| Thinned::of(graph, rule, school.as_ref()))
            .transpose()?;
        let last = match &thinned {
            Some(thinned) => thinned.pupil.last.as_ref(),
            None => pruned.as_ref().and_then(|pruned| pruned.last.as_ref()),
        };
        let made = Made {
            graph: thinned
                .as_ref()
                .map_or(graph, |thinned| &thinned.pupil.graph),
            last,
            steps: account(start, pruned.as_ref(), thinned.as_ref()),
            notes: thinned.iter().map(Thinned::told).collect(),
            done: Some(Done {
                step: "prune",
                did: told(start, pruned.as_ref(), thinned.as_ref()),
                side: None,
            }),
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

    /// How the network is trained; none where it is not. Weights alone are pruned without training
    /// unless epochs are asked for.
    fn recipe(&self, graph: &Graph, device: Device) -> Outcome<Option<Recipe>> {
        let training = &self.run.training;
        let trains = match self.rule.has_nodes() {
            true => !training.is_nothing(),
            false => training.is_asked_for(),
        };
        if !trains {
            return Ok(None);
        }
        let default = match self.is_taught() {
            true => Recipe::default(),
            false => Recipe::labels(),
        };
        let base = training.recipe.of(default, graph);
        let mut recipe = training.recipe(base, self.run.seed, device)?;
        recipe.keep_zeros |= self.rule.has_connections();
        Ok(Some(recipe))
    }

    fn school<'a>(
        &'a self,
        graph: &'a Graph,
        out: &'a OutFolder,
        recipe: &'a Recipe,
    ) -> Outcome<School<'a>> {
        let (training, seed) = (&self.run.training, self.run.seed);
        let material = Material::open(training, &self.data, graph, Some(&self.split), seed)?;
        material.check_labels(recipe)?;
        Ok(School {
            args: training,
            recipe,
            material,
            teacher: self.is_taught().then_some(graph),
            out,
        })
    }

    fn cycles<'a>(
        &'a self,
        criterion: Criterion,
        graph: &Graph,
        school: Option<&'a School<'a>>,
        device: Device,
    ) -> Outcome<Cycles<'a>> {
        let samples = self.cycles.samples.get();
        Ok(Cycles {
            args: &self.cycles,
            criterion,
            school,
            samples: sample(&self.run.training, &self.data, graph, samples)?,
            device,
            seed: self.run.seed,
        })
    }
}
