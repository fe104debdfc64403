use std::path::PathBuf;

use clap::Args;

use crate::args::{DeviceArgs, ModelArgs};
use crate::budget::BudgetArgs;
use crate::calibration::{Calibration, CalibrationArgs};
use crate::failure::Outcome;
use crate::latency::Race;
use crate::model::load;
use crate::output::{check_free, note, say, write_text};
use crate::planning;

/// Choose a form and a rank for every layer and write them down, without compressing anything
#[derive(Debug, Args)]
pub(crate) struct PlanCommand {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    budget: BudgetArgs,

    #[command(flatten)]
    calibration: CalibrationArgs,

    #[command(flatten)]
    device: DeviceArgs,

    /// Where the plan is written; stdout by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
}

impl PlanCommand {
    pub(crate) fn run(self) -> Outcome {
        if let Some(path) = self.output.as_deref().filter(|path| path.is_file()) {
            check_free(path, self.force)?;
        }
        let loaded = load(&self.model.model, &self.model.arch)?;
        let mut request = self.budget.request(&loaded.graph, 4)?;
        let calibration = Calibration::open(
            &self.calibration,
            &loaded.graph,
            &self.device,
            self.budget.seed,
        )?;
        let mut probe = calibration
            .as_ref()
            .map(|c| c.probe(&loaded.graph))
            .transpose()?;
        let looks = probe.as_mut().filter(|_| !self.budget.is_of_weights());
        let statistics = planning::statistics(&loaded.graph, looks)?;
        let device = self.device.resolve()?;
        if let Some(race) = Race::open(&request, &self.budget.latency, &loaded.graph, device)? {
            race.tell(&mut request);
        }
        let planned = planning::plan(&loaded.graph, &request, &statistics)?;
        let text = planned.plan.to_toml();
        let Some(path) = &self.output else {
            return say(text.trim_end());
        };
        write_text(path, &text)?;
        note(format!("wrote {}", path.display()));
        Ok(())
    }
}
