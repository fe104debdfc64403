//! What `finetune`, `train` and `prune` write.

use std::path::PathBuf;

use clap::Args;
use rankfold_compress::Plan;
use rankfold_finetune::{Graduate, Recipe};
use rankfold_graph::{CostModel, DType, Graph};
use rankfold_torch::Device;
use serde_json::{Value, json};

use crate::accuracy::Measured;
use crate::args::DeviceArgs;
use crate::background::{self, Background};
use crate::failure::Outcome;
use crate::folder::OutFolder;
use crate::model::Loaded;
use crate::output::{note, say};
use crate::record::{Done, Record, Side};
use crate::training::{Choice, Material, TrainingArgs, account, chosen_note};

/// How `finetune`, `train` and `prune` run, and where to.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) training: TrainingArgs,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    /// Seed of every random choice
    #[arg(long, default_value = "0", value_name = "N")]
    pub(crate) seed: u64,

    /// The folder that is written
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Replace the folder if it is there
    #[arg(long)]
    force: bool,
}

/// The folder of a trained network.
pub(crate) struct Finish {
    pub(crate) out: OutFolder,
}

impl Finish {
    /// Makes sure that the folder can be written before any work is done.
    pub(crate) fn claim(run: &RunArgs) -> Outcome<Self> {
        let out = OutFolder::claim(&run.output, run.force)?;
        if run.training.restart {
            out.restart()?;
        }
        Ok(Self { out })
    }

    /// Writes the chosen network and, where it is another, that of the last epoch.
    pub(crate) fn write(
        self,
        loaded: &Loaded,
        plan: &Plan,
        graduate: &Graduate,
        (choice, recipe, material): (Choice, &Recipe, &Material),
        measure: impl Fn(&Graph) -> Outcome<Option<Measured>>,
    ) -> Outcome {
        let (graph, epoch) = choice.take(graduate);
        let made = Made {
            graph: &graph,
            last: epoch.map(|_| &graduate.last),
            steps: json!({ "training": account(graduate, recipe, material, epoch) }),
            notes: epoch
                .map(|epoch| chosen_note(epoch, material))
                .into_iter()
                .collect(),
            done: None,
        };
        self.put(loaded, plan, made, recipe.device, measure)
    }

    /// Writes a network that was made of another, with the report.
    pub(crate) fn put(
        self,
        loaded: &Loaded,
        plan: &Plan,
        made: Made<'_>,
        device: Device,
        measure: impl Fn(&Graph) -> Outcome<Option<Measured>>,
    ) -> Outcome {
        let record = Record::new(loaded, plan, &[], made.steps, None)?;
        let origin = loaded.origin.as_ref();
        let dtype = origin.is_none().then_some(DType::F32);
        let written = self.out.write(made.graph, origin, plan, &record, dtype)?;
        if let Some(last) = made.last {
            self.out.also("last.safetensors", last, &record, dtype)?;
        }
        let side = |graph: &Graph, file_bytes: Option<u64>| -> Outcome<Side> {
            Ok(Side {
                cost: graph.cost(CostModel::True).unwrap_or_default(),
                file_bytes,
                measured: measure(graph)?,
            })
        };
        let before = side(&loaded.graph, loaded.file_bytes())?;
        let after = side(&written.graph, Some(written.file_bytes()))?;
        let background = Background {
            curves: Vec::new(),
            goal: None,
            steps: made.done.into_iter().collect(),
            machine: background::machine(device),
        };
        let report = record.report(before, after, &loaded.graph, &written, background);
        self.out.finish(&report)?;
        say(report.totals())?;
        for text in written.notes.iter().chain(&made.notes) {
            note(text);
        }
        self.out.tell();
        Ok(())
    }
}

/// A network that was made of another.
pub(crate) struct Made<'a> {
    pub(crate) graph: &'a Graph,
    /// That of the last epoch, where it is another.
    pub(crate) last: Option<&'a Graph>,
    /// What the report says of the way.
    pub(crate) steps: Value,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
    /// What was done, where the report has a row for it.
    pub(crate) done: Option<Done>,
}
