//! What a course comes to: the network that is used, and what the report says.

use rankfold_finetune::{Graduate, Recipe};
use rankfold_graph::Graph;
use serde_json::{Value, json};

use super::material::Material;
use super::options::TrainingArgs;

/// Which epoch's network is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The best by inputs that were not learnt from.
    Best,
    /// The last, where the network may have learnt from those inputs before.
    Last,
}

impl Choice {
    /// What labels of held-back training inputs say of a network that learnt from them long ago is worth
    /// nothing; a teacher's answers, and inputs that the user names, are.
    pub(crate) fn of(args: &TrainingArgs, taught: bool) -> Self {
        match taught || args.choose.is_some() {
            true => Self::Best,
            false => Self::Last,
        }
    }

    /// The network to use, and the epoch it comes from; none for the last.
    pub(crate) fn take(self, graduate: &Graduate) -> (Graph, Option<usize>) {
        match (self, &graduate.best) {
            (Self::Best, Some((epoch, graph))) => (graph.clone(), Some(*epoch)),
            _ => (graduate.last.clone(), None),
        }
    }
}

/// What the user is told of the epoch that was chosen.
pub(crate) fn chosen_note(epoch: usize, material: &Material) -> String {
    let on = &material.chosen_on;
    match epoch {
        0 => format!(
            "no epoch was better on {on} than the network before its training, which is used: a lower --rate disturbs it less"
        ),
        _ => format!("epoch {epoch} was the best on {on}"),
    }
}

/// What a report says of a training.
pub(crate) fn account(
    graduate: &Graduate,
    recipe: &Recipe,
    material: &Material,
    chosen: Option<usize>,
) -> Value {
    json!({
        "recipe": format!("{recipe:?}"),
        "data": material.identity(),
        "chosen_on": chosen.map(|_| &material.chosen_on),
        "chosen_epoch": chosen,
        "epochs": epochs(graduate),
        "stages": graduate.stages,
    })
}

/// Epochs of all stages.
pub(crate) fn epochs(graduate: &Graduate) -> usize {
    let stages = graduate.stages.iter();
    stages
        .map(|stage| stage.epochs.last().map_or(0, |epoch| epoch.epoch))
        .sum()
}
