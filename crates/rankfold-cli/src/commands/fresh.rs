use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use rankfold_compress::{Repeat, Timing};
use rankfold_torch::{Executor, Layout, Options, bench, memory_use, random_inputs};
use serde::{Deserialize, Serialize};

use crate::args::{ArchArgs, DeviceArgs, at_least_one};
use crate::failure::{Failure, Kind, Outcome};
use crate::model::load;

/// One model's way from the start of a process to its outputs, for `bench --fresh`
#[derive(Debug, Args)]
pub(crate) struct Fresh {
    /// The model; none for a process that only starts libtorch
    model: Option<PathBuf>,

    #[command(flatten)]
    arch: ArchArgs,

    #[command(flatten)]
    device: DeviceArgs,

    #[arg(long, value_parser = at_least_one, default_value = "1")]
    batch: NonZeroUsize,

    #[arg(long)]
    nchw: bool,
}

/// What the process says on a line of stdout when it has come so far.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Bytes in use now.
    pub(crate) resident: u64,
    /// The most bytes that were in use.
    pub(crate) peak: u64,
    /// The median time of a run, once there were several.
    pub(crate) seconds: Option<f64>,
}

/// Runs of the model once its first output is there.
const REPEAT: Repeat = Repeat {
    warmup: 1,
    samples: 9,
    seconds: 0.005,
};

impl Fresh {
    pub(crate) fn run(self) -> Outcome {
        let device = self.device.resolve()?;
        let Some(path) = &self.model else {
            return mark(None);
        };
        let loaded = load(path, &self.arch)?;
        let layout = if self.nchw {
            Layout::Nchw
        } else {
            Layout::Nhwc
        };
        let options = Options {
            device,
            layout,
            ..Options::default()
        };
        let executor = Executor::new(&loaded.graph, options)?;
        drop(loaded);
        let inputs = random_inputs(&executor, self.batch.into(), 0)?;
        mark(None)?;
        executor.run(&inputs)?;
        mark(None)?;
        let timings = bench(&[&executor], &inputs, REPEAT)?;
        mark(timings.first().map(Timing::median))
    }
}

fn mark(seconds: Option<f64>) -> Outcome {
    let inside = |e: std::io::Error| Failure::new(Kind::Inside, e);
    let memory = memory_use().map_err(inside)?;
    let mark = Mark {
        resident: memory.resident,
        peak: memory.peak,
        seconds,
    };
    let line = serde_json::to_string(&mark).map_err(|e| Failure::new(Kind::Inside, e))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(inside)
}
