//! What this machine can do at most: multiplications and bytes a second.

use std::time::Instant;

use tch::{Kind, Tensor};

use crate::device::Device;
use crate::error::{At, Result};

/// The most that a device was measured to do in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// Multiply-accumulates of f32, from a product of large matrices.
    pub macs: f64,
    /// Bytes read or written, from copies that no cache holds.
    pub bytes: f64,
}

impl Peaks {
    /// Measures a device, in some tenths of a second.
    pub fn measure(device: Device) -> Result<Self> {
        const SIDE: i64 = 1536;
        const FLOATS: i64 = 32 << 20;
        const TRIES: usize = 7;
        let _guard = tch::no_grad_guard();
        let step = "measuring the machine";
        let options = (Kind::Float, device.into());
        let matrix = Tensor::f_ones([SIDE, SIDE], options).at(step)?;
        let (from, mut to) = (
            Tensor::f_ones([FLOATS], options).at(step)?,
            Tensor::f_zeros([FLOATS], options).at(step)?,
        );
        let (mut product, mut copy) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..TRIES {
            product = product.min(seconds(device, || {
                matrix.f_matmul(&matrix).at(step).map(drop)
            })?);
            copy = copy.min(seconds(device, || to.f_copy_(&from).at(step))?);
        }
        Ok(Self {
            macs: (SIDE * SIDE * SIDE) as f64 / product,
            bytes: (2 * 4 * FLOATS) as f64 / copy,
        })
    }
}

fn seconds(device: Device, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    if let Device::Cuda(number) = device {
        tch::Cuda::synchronize(number as i64);
    }
    Ok(start.elapsed().as_secs_f64())
}
