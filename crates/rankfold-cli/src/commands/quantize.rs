use clap::Args;
use rankfold_graph::Graph;
use rankfold_torch::check_finite;

use crate::args::ModelArgs;
use crate::calibration::{Calibration, CalibrationArgs};
use crate::coded::{Coded, TargetArgs};
use crate::failure::{Failure, Outcome};
use crate::model::load;
use crate::steps::Change;

/// Store weights in 8 bits, and round what flows between layers to 8 bits by calibration
#[derive(Debug, Args)]
pub(crate) struct Quantize {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    calibration: CalibrationArgs,

    /// Leave what flows between layers as it is; needs no data
    #[arg(long)]
    weights_only: bool,

    /// Seed of every random choice
    #[arg(long, default_value = "0", value_name = "N")]
    seed: u64,

    #[command(flatten)]
    target: TargetArgs,
}

impl Quantize {
    pub(crate) fn run(self) -> Outcome {
        if self.calibration.data.data.is_none() && !self.weights_only {
            return Err(
                Failure::usage("what flows between layers is quantised by looking at it")
                    .hint("give --data KIND:PATH, or --weights-only"),
            );
        }
        let out = self.target.claim()?;
        let loaded = load(&self.model.model, &self.model.arch)?.simplify()?;
        check_finite(&loaded.graph)?;
        let calibration = match self.weights_only {
            true => None,
            false => self.calibration(&loaded.graph)?,
        };
        let coded = Coded {
            change: Change::quantized(&loaded.graph, calibration.as_ref())?,
            data: &self.calibration.data,
            calibration: calibration.as_ref(),
            seed: self.seed,
        };
        self.target.finish(&out, &loaded, coded)
    }

    fn calibration(&self, graph: &Graph) -> Outcome<Option<Calibration>> {
        Calibration::open(&self.calibration, graph, &self.target.device, self.seed)
    }
}
