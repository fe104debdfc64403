//! What `finetune` and `train` write.

use std::path::PathBuf;

use clap::Args;
use rankfold_compress::Plan;
use rankfold_finetune::{Graduate, Recipe};
use rankfold_graph::{CostModel, DType, Graph};
use serde_json::json;

use crate::accuracy::Scores;
use crate::args::DeviceArgs;
use crate::background::{self, Background};
use crate::failure::Outcome;
use crate::folder::OutFolder;
use crate::model::Loaded;
use crate::output::{note, say};
use crate::record::{Record, Side};
use crate::training::{Choice, Material, TrainingArgs, account};

/// How `finetune` and `train` run, and where to.
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
    target: String,
}

impl Finish {
    /// Makes sure that the folder can be written before any work is done.
    pub(crate) fn claim(run: &RunArgs) -> Outcome<Self> {
        let out = OutFolder::claim(&run.output, run.force)?;
        if run.training.restart {
            out.restart()?;
        }
        Ok(Self {
            out,
            target: run.output.display().to_string(),
        })
    }

    /// Writes the chosen network and, where it is another, that of the last epoch.
    pub(crate) fn write(
        self,
        loaded: &Loaded,
        plan: &Plan,
        graduate: &Graduate,
        (choice, recipe, material): (Choice, &Recipe, &Material),
        scores: impl Fn(&Graph) -> Outcome<Option<Scores>>,
    ) -> Outcome {
        let (graph, epoch) = choice.take(graduate);
        let steps = json!({ "training": account(graduate, recipe, material, epoch) });
        let record = Record::new(loaded, plan, &[], steps, None)?;
        let origin = loaded.origin.as_ref();
        let dtype = origin.is_none().then_some(DType::F32);
        let written = self.out.write(&graph, origin, plan, &record, dtype)?;
        if epoch.is_some() {
            self.out
                .also("last.safetensors", &graduate.last, &record, dtype)?;
        }
        let side = |graph: &Graph, file_bytes: Option<u64>| -> Outcome<Side> {
            Ok(Side {
                cost: graph.cost(CostModel::True).unwrap_or_default(),
                file_bytes,
                scores: scores(graph)?,
            })
        };
        let before = side(&loaded.graph, loaded.file_bytes())?;
        let after = side(&written.graph, Some(written.file_bytes()))?;
        let background = Background {
            curves: Vec::new(),
            goal: None,
            machine: background::machine(recipe.device),
        };
        let report = record.report(before, after, &loaded.graph, &written, background);
        self.out.finish(&report)?;
        say(report.totals())?;
        for text in &written.notes {
            note(text);
        }
        if let Some(epoch) = epoch {
            note(format!(
                "epoch {epoch} was the best on {}",
                material.chosen_on
            ));
        }
        note(format!("wrote {}", self.target));
        Ok(())
    }
}
