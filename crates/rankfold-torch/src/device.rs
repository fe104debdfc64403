//! Where tensors live: which device is asked for, whether it is there, and opening CUDA.
//!
//! Executables link libtorch's CPU half alone. [`DeviceChoice::resolve`] loads the other half at run
//! time where there is one, so that one binary serves both kinds of machine.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::cuda::{self, NoCuda};

/// The device that a user asks for; written `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The first GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

/// A device that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl Device {
    /// Whether computing in bf16 is faster than in f32: on GPUs, and on processors that multiply it.
    pub fn is_fast_in_bf16(self) -> bool {
        match self {
            Self::Cuda(_) => true,
            #[cfg(target_arch = "x86_64")]
            Self::Cpu => std::arch::is_x86_feature_detected!("avx512bf16"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Cpu => false,
        }
    }
}

/// Why a device cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The name says no device.
    #[error("expected a device as auto, cpu, cuda or cuda:N, found {given:?}")]
    Unknown {
        /// The name as given.
        given: String,
    },
    /// A GPU is asked for and CUDA is not usable.
    #[error("{asked} asked, no CUDA found: {reason}")]
    NoCuda {
        /// What was asked for.
        asked: DeviceChoice,
        /// What is missing.
        reason: NoCuda,
    },
    /// CUDA is there, but not this many GPUs.
    #[error("cuda:{asked} asked, found {}", gpus(*.found))]
    NoSuchGpu {
        /// The number asked for.
        asked: usize,
        /// How many GPUs there are.
        found: usize,
    },
}

impl DeviceError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { .. } => "use auto to take the GPU where there is one".into(),
            Self::NoCuda {
                reason: NoCuda::Driver,
                ..
            } => "use cpu or auto, or install the NVIDIA driver (libcuda.so.1)".into(),
            Self::NoCuda {
                reason: NoCuda::Library { .. },
                ..
            } => "run `make libtorch CUDA=1`, or set LIBTORCH to a libtorch that has CUDA".into(),
            Self::NoCuda {
                reason: NoCuda::Unloadable { .. },
                ..
            } => "its libraries and libtorch's must come from one version".into(),
            Self::NoCuda {
                reason: NoCuda::Gpu,
                ..
            } => "look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use cpu".into(),
            Self::NoSuchGpu { found: 1, .. } => "use cuda:0".into(),
            Self::NoSuchGpu { found, .. } => {
                format!("use cuda:0 to cuda:{}", found.saturating_sub(1))
            }
        }
    }
}

fn gpus(count: usize) -> String {
    match count {
        1 => "1 GPU".into(),
        _ => format!("{count} GPUs"),
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(given: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown {
            given: given.to_owned(),
        };
        match given.split_once(':') {
            None => match given {
                "auto" => Ok(Self::Auto),
                "cpu" => Ok(Self::Cpu),
                "cuda" => Ok(Self::Cuda(0)),
                _ => Err(unknown()),
            },
            Some(("cuda", number)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                // libtorch keeps device numbers in a signed byte.
                number
                    .parse::<i8>()
                    .map(|n| Self::Cuda(n.unsigned_abs().into()))
                    .map_err(|_| unknown())
            }
            Some(_) => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// The device chosen, once it is known to be there. Opens CUDA unless the choice is the CPU.
    ///
    /// Must come before anything that asks libtorch for CUDA, seeding its generators included: libtorch
    /// remembers the first answer. Quick on a machine without the NVIDIA driver.
    pub fn resolve(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(gpu_count().map_or(Device::Cpu, |_| Device::Cuda(0))),
            Self::Cuda(number) => {
                let found = gpu_count().map_err(|reason| DeviceError::NoCuda {
                    asked: self,
                    reason,
                })?;
                if number < found {
                    Ok(Device::Cuda(number))
                } else {
                    Err(DeviceError::NoSuchGpu {
                        asked: number,
                        found,
                    })
                }
            }
        }
    }
}

impl From<Device> for tch::Device {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Cpu,
            Device::Cuda(number) => Self::Cuda(number),
        }
    }
}

/// The number of GPUs, at least one. Opens CUDA.
pub fn gpu_count() -> Result<usize, NoCuda> {
    cuda::open()?;
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(NoCuda::Gpu),
    }
}

/// The folder of the libtorch that this process runs on, or none where it is linked in statically.
pub fn libtorch_folder() -> Option<PathBuf> {
    cuda::libtorch_folder()
}

/// The version of the libtorch that this process runs on, where it is one that tells.
pub fn libtorch_version() -> Option<String> {
    cuda::libtorch_version()
}

/// The library of libtorch's CUDA half, where it is installed; it is not opened.
pub fn cuda_library() -> Option<PathBuf> {
    cuda::library()
}

/// Sets how many threads one operation on the CPU may use.
pub fn set_threads(threads: std::num::NonZeroUsize) {
    tch::set_num_threads(i32::try_from(threads.get()).unwrap_or(i32::MAX));
}

/// How many threads one operation on the CPU may use.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_back_as_written() {
        for name in ["auto", "cpu", "cuda:0", "cuda:7", "cuda:127"] {
            assert_eq!(name.parse::<DeviceChoice>().expect(name).to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
    }

    #[test]
    fn other_names_are_refused_and_named() {
        for name in [
            "", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:+1", "cuda:128", "cuda:x", "cuda:0:1",
            "cpu:0", " cpu",
        ] {
            assert_eq!(
                name.parse::<DeviceChoice>(),
                Err(DeviceError::Unknown { given: name.into() })
            );
        }
    }

    #[test]
    fn the_cpu_is_always_there_and_computes() {
        let device = tch::Device::from(DeviceChoice::Cpu.resolve().expect("the CPU is there"));
        let sum = tch::Tensor::from_slice(&[1.0f32, 2.0]).to(device) + 3.0;
        assert_eq!(Vec::<f32>::try_from(&sum).expect("two floats"), [4.0, 5.0]);
    }

    #[test]
    fn a_gpu_is_used_or_its_absence_explained() {
        match (cuda::open(), DeviceChoice::Auto.resolve()) {
            (Ok(()), Ok(Device::Cuda(0))) => {
                let sum = tch::Tensor::from_slice(&[1.0f32, 2.0]).to(tch::Device::Cuda(0)) + 3.0;
                assert_eq!(
                    Vec::<f32>::try_from(&sum.to(tch::Device::Cpu)).expect("two floats"),
                    [4.0, 5.0]
                );
                let error = DeviceChoice::Cuda(100)
                    .resolve()
                    .expect_err("nobody has 101 GPUs");
                assert!(
                    error.to_string().starts_with("cuda:100 asked, found "),
                    "{error}"
                );
            }
            (opened, Ok(Device::Cpu)) => {
                let reason = opened.err().unwrap_or(NoCuda::Gpu);
                let error = DeviceChoice::Cuda(1)
                    .resolve()
                    .expect_err("auto found none");
                assert_eq!(
                    error,
                    DeviceError::NoCuda {
                        asked: DeviceChoice::Cuda(1),
                        reason
                    }
                );
                assert!(
                    error
                        .to_string()
                        .starts_with("cuda:1 asked, no CUDA found: "),
                    "{error}"
                );
                assert!(!error.hint().is_empty());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn threads_are_as_set() {
        let before = threads();
        set_threads(std::num::NonZeroUsize::MIN);
        assert_eq!(threads(), 1);
        set_threads(before.try_into().expect("at least one thread"));
        assert_eq!(threads(), before);
    }
}
