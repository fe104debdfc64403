use clap::Args;
use rankfold_compress::{Quantized, RangeRule, Try, quantize, quantize_weights};
use rankfold_graph::Graph;
use rankfold_torch::check_finite;
use serde_json::{Value, json};

use crate::args::ModelArgs;
use crate::calibration::{Calibration, CalibrationArgs};
use crate::coded::{Coded, TargetArgs};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::model::load;
use crate::output::note;
use crate::progress;

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
        let (quantized, calibration) = match self.weights_only {
            true => (quantize_weights(&loaded.graph)?, None),
            false => {
                let calibration = self.calibration(&loaded.graph)?;
                let quantized = calibrated(&loaded.graph, calibration.as_ref())?;
                (quantized, calibration)
            }
        };
        if let Some(best) = quantized.tries.first() {
            note(told(best, quantized.values));
        }
        let coded = Coded {
            graph: &quantized.graph,
            steps: json!({ "quantized": account(&quantized) }),
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

fn calibrated(graph: &Graph, calibration: Option<&Calibration>) -> Outcome<Quantized> {
    let Some(calibration) = calibration else {
        return Ok(quantize_weights(graph)?);
    };
    let mut probe = calibration.probe(graph)?;
    let bar = progress::bar("quantising", 2 * RangeRule::ALL.len() as u64);
    let quantized = quantize(graph, &mut probe, &mut |attempt| {
        bar.inc(1);
        bar.set_message(format!("divergence {:.2e}", attempt.divergence));
    });
    bar.finish_and_clear();
    interrupt::check()?;
    Ok(quantized?)
}

fn told(best: &Try, values: usize) -> String {
    let channels = match best.equalized {
        true => "channels equalised",
        false => "channels as they were",
    };
    format!(
        "{values} values in 8 bits: {} ranges, {channels}; divergence {:.2e} on the inputs held back",
        best.rule, best.divergence
    )
}

/// What a report says of a quantisation.
fn account(quantized: &Quantized) -> Value {
    let tries = quantized.tries.iter().map(|attempt| {
        json!({
            "equalized": attempt.equalized,
            "ranges": attempt.rule.to_string(),
            "divergence": attempt.divergence,
        })
    });
    json!({ "values": quantized.values, "tries": tries.collect::<Vec<_>>() })
}
