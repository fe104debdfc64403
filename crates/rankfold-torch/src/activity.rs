//! What activations give, channel by channel.

use std::ops::ControlFlow;

use rankfold_compress::{Activity, ChannelActivity, Site};
use rankfold_data::{Batch, DataError};
use rankfold_graph::Graph;
use tch::{Kind, TchError, Tensor};

use crate::batch::batch_inputs;
use crate::convert::to_vec_f64;
use crate::device::Device;
use crate::error::{At, Result, TorchError};
use crate::executor::{Executor, Options};

const STEP: &str = "looking at activations";

/// What the activations of a graph give over all batches. `progress` hears how many inputs were seen
/// and may end it.
pub fn activity(
    graph: &Graph,
    sites: &[Site],
    device: Device,
    batches: impl IntoIterator<Item = std::result::Result<Batch, DataError>>,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Activity> {
    let options = Options {
        device,
        fold: false,
        join: false,
        ..Options::default()
    };
    let model = Executor::new(graph, options)?;
    let taps = model.taps(sites.iter().map(|site| site.node.as_str()))?;
    let mut seen = Activity::new();
    let mut inputs = 0;
    for batch in batches {
        let batch = batch?;
        model.run_with(&batch_inputs(&model, &batch)?, &taps, |tapped| {
            let site = sites.iter().find(|site| site.node == tapped.node);
            if let (Some(site), Some(output)) = (site, tapped.outputs.first()) {
                let own = of_batch(output, site.axis)?;
                seen.entry(site.node.clone()).or_default().add(&own);
            }
            Ok(())
        })?;
        inputs += batch.len();
        if progress(inputs).is_break() {
            return Err(TorchError::Stopped);
        }
    }
    match inputs {
        0 => Err(TorchError::Empty { what: "look at" }),
        _ => Ok(seen),
    }
}

fn of_batch(output: &Tensor, axis: usize) -> Result<ChannelActivity> {
    let sums = || -> std::result::Result<_, TchError> {
        let others: Vec<i64> = (0..output.dim() as i64)
            .filter(|&dim| dim != axis as i64)
            .collect();
        let output = output.f_to_kind(Kind::Float)?;
        let active = output
            .f_gt(0.0)?
            .f_sum_dim_intlist(&others[..], false, Kind::Double)?;
        let (variance, mean) = output.f_var_mean_correction(&others[..], 0, false)?;
        Ok([active, mean, variance])
    };
    let [active, mean, variance] = sums().at(STEP)?;
    let active = to_vec_f64(&active)?;
    let samples = output.numel() / active.len().max(1);
    Ok(ChannelActivity {
        active: active.into_iter().map(|count| count as u64).collect(),
        mean: to_vec_f64(&mean)?,
        variance: to_vec_f64(&variance)?,
        samples: samples as u64,
    })
}
