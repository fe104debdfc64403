//! What `cluster` and `quantize` write: a model with coded weights, and a report on it.

use std::path::PathBuf;

use clap::Args;
use rankfold_data::Split;
use rankfold_graph::{CostModel, DType, Graph};

use crate::accuracy::{self, Measured};
use crate::args::{DataArgs, DeviceArgs};
use crate::background::{self, Background};
use crate::calibration::Calibration;
use crate::failure::Outcome;
use crate::folder::OutFolder;
use crate::model::Loaded;
use crate::output::{note, say};
use crate::planning;
use crate::record::{Done, Record, Side};
use crate::steps::Change;

/// Where to, and what is measured.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Part of the data on which accuracy is measured before and after; where there are labels
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    split: Split,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    /// The folder that is written
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Replace the folder if it is there
    #[arg(long)]
    force: bool,
}

/// A model with coded weights, and how it came to be.
pub(crate) struct Coded<'a> {
    pub(crate) change: Change,
    pub(crate) data: &'a DataArgs,
    pub(crate) calibration: Option<&'a Calibration>,
    pub(crate) seed: u64,
}

impl TargetArgs {
    /// Makes sure that the folder can be written before any work is done.
    pub(crate) fn claim(&self) -> Outcome<OutFolder> {
        OutFolder::claim(&self.output, self.force)
    }

    /// Writes the model, measures what was written, and says how it compares with the source.
    pub(crate) fn finish(&self, out: &OutFolder, loaded: &Loaded, coded: Coded<'_>) -> Outcome {
        let plan = planning::previous(loaded, coded.seed);
        let Change {
            graph,
            step,
            account,
            did,
        } = coded.change;
        let record = Record::new(loaded, &plan, &[], account, coded.calibration)?;
        let origin = loaded.origin.as_ref();
        let dtype = origin.is_none().then_some(DType::F32);
        let written = out.write(&graph, origin, &plan, &record, dtype)?;
        let device = self.device.resolve()?;
        let side = |graph: &Graph, file_bytes: Option<u64>| -> Outcome<Side> {
            Ok(Side {
                cost: graph.cost(CostModel::True).unwrap_or_default(),
                file_bytes,
                measured: accuracy::on(graph, coded.data, &self.split, device)?
                    .map(Measured::Classes),
            })
        };
        let before = side(&loaded.graph, loaded.file_bytes())?;
        let measured = written.exported.as_ref().unwrap_or(&written.graph);
        let after = side(measured, Some(written.file_bytes()))?;
        let background = Background {
            curves: Vec::new(),
            goal: None,
            steps: vec![Done {
                step,
                did,
                side: None,
            }],
            machine: background::machine(device),
        };
        let report = record.report(before, after, &loaded.graph, &written, background);
        out.finish(&report)?;
        say(report.text())?;
        written.notes.iter().for_each(note);
        out.tell();
        Ok(())
    }
}
