//! The graph on libtorch.
mod cuda;
mod device;

pub use cuda::NoCuda;
pub use device::{
    Device, DeviceChoice, DeviceError, libtorch_folder, open_cuda, set_threads, threads,
};
