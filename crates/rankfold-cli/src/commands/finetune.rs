use std::path::PathBuf;

use clap::Args;
use rankfold_data::Split;
use rankfold_finetune::{Recipe, Stage};

use crate::args::{ArchArgs, DataArgs, ModelArgs};
use crate::failure::{Failure, Outcome};
use crate::model::{Loaded, load};
use crate::planning;
use crate::trained::{Finish, RunArgs};
use crate::training::{Choice, Material, RecipeArg, Training, weights_hash};

/// Train a model that is there already, compressed or not
#[derive(Debug, Args)]
pub(crate) struct Finetune {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    data: DataArgs,

    /// Part of the data on which accuracy is measured before and after; where there are labels
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    split: Split,

    /// A model whose answers are learnt; labels are not needed then
    #[arg(long, value_name = "MODEL")]
    teacher: Option<PathBuf>,

    /// The network whose weights a bare checkpoint of the teacher holds; the model's by default
    #[arg(long, value_name = "NAME", requires = "teacher")]
    teacher_arch: Option<String>,

    #[command(flatten)]
    run: RunArgs,
}

impl Finetune {
    pub(crate) fn run(self) -> Outcome {
        let device = self.run.device.resolve()?;
        if self.teacher.is_some() && self.run.training.recipe != RecipeArg::Default {
            return Err(Failure::usage("the recipes of papers have no teacher")
                .hint("leave --teacher or --recipe out"));
        }
        let finish = Finish::claim(&self.run)?;
        let loaded = load(&self.model.model, &self.model.arch)?;
        let default = match &self.teacher {
            Some(_) => Recipe::default(),
            None => Recipe::labels(),
        };
        let base = self.run.training.recipe.of(default, &loaded.graph);
        let recipe = self.run.training.recipe(base, self.run.seed, device)?;
        let teacher = self.teacher()?;
        let material = Material::open(
            &self.run.training,
            &self.data,
            &loaded.graph,
            Some(&self.split),
            self.run.seed,
        )?;
        material.check_labels(&recipe)?;
        let plan = planning::previous(&loaded, self.run.seed);
        let decomposed = plan.layers.iter().filter(|layer| layer.rank.is_some());
        let decomposed: Vec<String> = decomposed.map(|layer| layer.name.clone()).collect();
        let mut identity = vec![("model", weights_hash(&loaded.graph))];
        if let Some(teacher) = &teacher {
            identity.push(("teacher", weights_hash(&teacher.graph)));
        }
        let training = Training {
            args: &self.run.training,
            network: "model",
            doing: "training",
            stages: &[Stage::training()],
            decomposed: &decomposed,
            teacher: teacher.as_ref().map(|teacher| &teacher.graph),
            material: &material,
            recipe: &recipe,
            folder: finish.out.course("model"),
            metrics: finish.out.file("metrics.jsonl"),
            identity,
        };
        let graduate = training.go_through(&loaded.graph, |graph, _| Ok(graph.clone()))?;
        let choice = Choice::of(&self.run.training, teacher.is_some());
        finish.write(
            &loaded,
            &plan,
            &graduate,
            (choice, &recipe, &material),
            |graph| crate::accuracy::at(recipe.aim, graph, &self.data, &self.split, device),
        )
    }

    fn teacher(&self) -> Outcome<Option<Loaded>> {
        let Some(path) = &self.teacher else {
            return Ok(None);
        };
        let arch = match &self.teacher_arch {
            None => self.model.arch.clone(),
            own => ArchArgs {
                arch: own.clone(),
                ..self.model.arch.clone()
            },
        };
        load(path, &arch).map(Some)
    }
}
