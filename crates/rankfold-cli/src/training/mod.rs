//! From the options of training to a course, gone through with progress and a file of metrics.

mod material;
mod options;
mod outcome;
mod parse;
mod telling;

use std::path::PathBuf;

use rankfold_finetune::{Course, Graduate, Recipe, Stage};
use rankfold_graph::Graph;
use rankfold_torch::Device;
use sha2::{Digest, Sha256};

use self::telling::Telling;
use crate::failure::Outcome;
use crate::interrupt;

pub(crate) use self::material::{Material, sample};
pub(crate) use self::options::{RecipeArg, TrainingArgs, at_least_zero};
pub(crate) use self::outcome::{Choice, account, chosen_note, epochs};

/// A course with all that is needed to go through it.
pub(crate) struct Training<'a> {
    pub(crate) args: &'a TrainingArgs,
    /// What the metrics call the network.
    pub(crate) network: &'static str,
    /// What the progress bar says is done.
    pub(crate) doing: &'static str,
    pub(crate) stages: &'a [Stage],
    pub(crate) decomposed: &'a [String],
    pub(crate) teacher: Option<&'a Graph>,
    pub(crate) material: &'a Material,
    pub(crate) recipe: &'a Recipe,
    /// Where checkpoints are kept.
    pub(crate) folder: PathBuf,
    /// A line an epoch.
    pub(crate) metrics: PathBuf,
    /// What else tells this training from others.
    pub(crate) identity: Vec<(&'static str, String)>,
}

impl Training<'_> {
    /// The network after all stages, on from where an earlier run stopped.
    pub(crate) fn go_through(
        &self,
        start: &Graph,
        decompose: impl FnMut(&Graph, &Stage) -> Outcome<Graph>,
    ) -> Outcome<Graduate> {
        let everywhere = Recipe {
            device: Device::Cpu,
            ..self.recipe.clone()
        };
        let mut identity = self.identity.clone();
        identity.push(("data", self.material.identity()));
        identity.push(("recipe", format!("{everywhere:?}")));
        identity.push(("freezing", format!("{:?}", self.args.freeze)));
        let names: Vec<&str> = self
            .stages
            .iter()
            .map(|stage| stage.name.as_str())
            .collect();
        identity.push(("stages", names.join(", ")));
        let course = Course {
            stages: self.stages,
            decomposed: self.decomposed,
            teacher: self.teacher,
            lessons: &self.material.lessons,
            exam: Some(&self.material.exam),
            recipe: self.recipe,
            freeze: self.args.freeze(),
            folder: &self.folder,
            identity: &identity,
            keep_every: self.args.keep_every(),
        };
        let mut telling = Telling::new(self);
        let done = course.run(start, decompose, &mut |news| telling.hear(&news));
        telling.bar.finish_and_clear();
        interrupt::check()?;
        let done = done?;
        telling.records = done.stages.clone();
        telling.write()?;
        Ok(done)
    }
}

/// A hash of all weights of a network.
pub(crate) fn weights_hash(graph: &Graph) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in graph.weights().iter() {
        hash.update(name.as_bytes());
        hash.update(tensor.bytes());
    }
    let digest = hash.finalize();
    digest[..16].iter().map(|b| format!("{b:02x}")).collect()
}
