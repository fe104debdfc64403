//! Inputs without labels: what compression learns from and what it decides by.

use std::num::NonZeroUsize;

use clap::Args;
use rankfold_data::{Dataset, Split};
use rankfold_graph::Graph;
use rankfold_torch::{Device, ProbeOptions, TorchProbe};

use crate::args::{DataArgs, DeviceArgs, at_least_one};
use crate::data;
use crate::failure::{Failure, Outcome};
use crate::interrupt;

/// What data-aware compression looks at.
#[derive(Debug, Clone, Args)]
pub(crate) struct CalibrationArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,

    /// Inputs to calibrate on; labels are not read
    #[arg(long, value_parser = at_least_one, default_value = "1024", value_name = "N")]
    pub(crate) calibrate: NonZeroUsize,

    /// Part of the data to calibrate on
    #[arg(long, default_value = "train", value_name = "SPLIT")]
    pub(crate) calibrate_split: Split,
}

/// Calibration inputs and where the model runs on them.
#[derive(Debug)]
pub(crate) struct Calibration {
    inputs: Dataset,
    normalization: rankfold_data::Normalization,
    device: Device,
    batch_size: usize,
    seed: u64,
}

impl Calibration {
    /// The calibration inputs, where data were given.
    pub(crate) fn open(
        args: &CalibrationArgs,
        graph: &Graph,
        device: &DeviceArgs,
        seed: u64,
    ) -> Outcome<Option<Self>> {
        let Some(spec) = &args.data.data else {
            return Ok(None);
        };
        let how = &args.data.how;
        let data = data::open(spec, graph, how, &args.calibrate_split, None)?;
        let wanted = usize::from(args.calibrate).min(data.len());
        let fixed = data::fixed_batch(graph);
        let wanted = match fixed {
            None => wanted,
            Some(size) => in_full_batches(wanted, size)?,
        };
        Ok(Some(Self {
            inputs: data.calibration(wanted, seed)?,
            normalization: data::normalization(graph, how)?,
            device: device.resolve()?,
            batch_size: fixed.unwrap_or(ProbeOptions::default().batch_size),
            seed,
        }))
    }

    /// The inputs.
    pub(crate) fn inputs(&self) -> &Dataset {
        &self.inputs
    }

    /// Whether accuracy on `split` is measured on these inputs, as far as the splits tell.
    pub(crate) fn measures_on_itself(&self, split: &Split) -> bool {
        !self.inputs.has_own_parts() && split.is_whole() && self.inputs.split().is_whole()
    }

    /// How many of them run at a time.
    pub(crate) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Which inputs these are, in words that tell them from others.
    pub(crate) fn identity(&self) -> String {
        format!(
            "{} inputs of {} {}, seed {}",
            self.inputs.len(),
            self.inputs.spec(),
            self.inputs.split(),
            self.seed
        )
    }

    /// A probe that runs the model on them.
    pub(crate) fn probe(&self, original: &Graph) -> Outcome<TorchProbe> {
        let probe = TorchProbe::new(
            original,
            self.inputs.clone(),
            self.normalization.clone(),
            ProbeOptions {
                device: self.device,
                batch_size: self.batch_size,
                seed: self.seed,
                ..ProbeOptions::default()
            },
        )?;
        Ok(probe.asking(interrupt::flow))
    }
}

/// Batches of a calibration at least, so that some can be held back.
const BATCHES: usize = 8;

/// As many of the inputs as fill batches of `size`.
fn in_full_batches(inputs: usize, size: usize) -> Outcome<usize> {
    let full = inputs - inputs % size.max(1);
    match full >= BATCHES * size {
        true => Ok(full),
        false => Err(Failure::usage(format!(
            "the model takes {size} inputs at a time: calibration needs {}, found {inputs}",
            BATCHES * size
        ))
        .hint("export the model with an open batch dimension, or give more inputs")),
    }
}
