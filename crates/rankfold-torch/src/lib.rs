//! The graph on libtorch.

mod activity;
mod batch;
mod calibrate;
mod compare;
mod compose;
mod convert;
mod cuda;
mod device;
mod error;
mod evaluate;
mod executor;
mod fold;
mod fuse;
mod memory;
mod moments;
mod observe;
mod ops;
mod peaks;
mod plan;
mod probe;
mod simplify;
mod stopwatch;
#[cfg(test)]
mod tests;
mod timing;
mod trainable;
mod yardstick;

/// The version of libtorch that this crate is written for, any patch of it.
pub const LIBTORCH: &str = "2.11";

pub use activity::activity;
pub use batch::{label_tensor, ordered_inputs, squared_errors, target_tensor};
pub use calibrate::{CalibrateOptions, Metric, calibrate};
pub use compare::{Comparison, Difference, Divergence, compare};
pub use convert::{dtype_of, from_torch, to_torch};
pub use cuda::NoCuda;
pub use device::{
    Device, DeviceChoice, DeviceError, cuda_library, gpu_count, libtorch_folder, libtorch_version,
    set_threads, threads,
};
pub use error::{MissingOp, Result, TorchError};
pub use evaluate::{Metrics, Tally, evaluate, log_probabilities, root_mean_square_error};
pub use executor::{Executor, Layout, Options, Scores, Tapped, Taps, check_finite};
pub use memory::{MemoryUse, keep_freed_memory, memory_use};
pub use peaks::Peaks;
pub use plan::missing_ops;
pub use probe::{ProbeOptions, TorchProbe};
pub use simplify::{Simplified, simplify};
pub use stopwatch::Libtorch;
pub use timing::{bench, random_inputs};
pub use trainable::{Parameter, Phase, Trainable, recalibrate};
pub use yardstick::{AtLayer, Hits, Reading, Yardstick};
