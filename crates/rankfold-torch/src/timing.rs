//! How long models take, side by side in one process.

use std::time::Instant;

use tch::{Kind, Tensor};

use crate::convert::kind_of;
use crate::device::Device;
use crate::error::{At, Result, TorchError};
use crate::executor::Executor;

/// How often to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repeat {
    /// Runs of every model before anything is measured.
    pub warmup: usize,
    /// Measurements of every model.
    pub samples: usize,
    /// Least duration of one measurement; models quicker than this run several times in it.
    pub seconds: f64,
}

impl Default for Repeat {
    fn default() -> Self {
        Self {
            warmup: 3,
            samples: 25,
            seconds: 0.005,
        }
    }
}

/// The durations of one model's runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Seconds of a run, one entry a measurement, in the order of measuring.
    pub samples: Vec<f64>,
}

impl Timing {
    /// Half of the measurements are at most this, in seconds.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// First and third quartile, in seconds.
    pub fn quartiles(&self) -> [f64; 2] {
        [self.quantile(0.25), self.quantile(0.75)]
    }

    /// The shortest measurement, in seconds.
    pub fn fastest(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The value below which a share `q` of the measurements lies, interpolated.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return f64::NAN;
        };
        let place = q.clamp(0.0, 1.0) * last as f64;
        let (low, high) = (
            sorted[place.floor() as usize],
            sorted[place.ceil() as usize],
        );
        low + (high - low) * place.fract()
    }
}

/// Measures models on the same inputs, in turn: every model once, then every model again.
///
/// Noise of the machine then falls on all of them alike, and ratios of medians are meaningful.
pub fn bench(models: &[&Executor], inputs: &[Tensor], repeat: Repeat) -> Result<Vec<Timing>> {
    let mut fastest = f64::INFINITY;
    for model in models {
        for _ in 0..repeat.warmup.max(1) {
            fastest = fastest.min(timed(model, inputs, 1)?);
        }
    }
    let runs = (repeat.seconds / fastest.max(1e-9)).ceil().clamp(1.0, 1e6) as usize;
    let mut samples = vec![Vec::with_capacity(repeat.samples); models.len()];
    for round in 0..repeat.samples {
        for i in 0..models.len() {
            let turn = (i + round) % models.len();
            samples[turn].push(timed(models[turn], inputs, runs)?);
        }
    }
    Ok(samples
        .into_iter()
        .map(|samples| Timing { samples })
        .collect())
}

/// Seconds of one of `runs` runs.
fn timed(model: &Executor, inputs: &[Tensor], runs: usize) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..runs {
        std::hint::black_box(model.run(inputs)?);
    }
    if let Device::Cuda(number) = model.options().device {
        tch::Cuda::synchronize(number as i64);
    }
    Ok(start.elapsed().as_secs_f64() / runs as f64)
}

/// Inputs for a model: mean zero, variance one, without structure, the same for the same seed; whole
/// numbers are zero.
///
/// Open dimensions other than the first, the batch, are taken to be one.
pub fn random_inputs(model: &Executor, batch: usize, seed: i64) -> Result<Vec<Tensor>> {
    let step = "drawing inputs";
    let mut inputs = Vec::new();
    for input in model.inputs() {
        let Some(shape) = &input.fact.shape else {
            return Err(TorchError::Empty {
                what: "run: the model's input has no known shape",
            });
        };
        let mut size: Vec<i64> = shape
            .iter()
            .map(|d| d.fixed().unwrap_or(1) as i64)
            .collect();
        if let (Some(first), Some(dim)) = (size.first_mut(), shape.first())
            && dim.fixed().is_none()
        {
            *first = batch as i64;
        }
        let kind = kind_of(input.fact.dtype);
        let device = model.options().device.into();
        inputs.push(if input.fact.dtype.is_float() {
            let count: i64 = size.iter().product();
            let places = Tensor::f_arange(count, (Kind::Double, tch::Device::Cpu)).at(step)?;
            let angles = places
                .f_mul_scalar(12.9898)
                .at(step)?
                .f_add_scalar(seed)
                .at(step)?;
            let drawn = angles
                .f_sin()
                .at(step)?
                .f_mul_scalar(std::f64::consts::SQRT_2)
                .at(step)?;
            let drawn = drawn.f_reshape(&size[..]).at(step)?;
            drawn.f_to_kind(kind).at(step)?.f_to(device).at(step)?
        } else {
            Tensor::f_zeros(&size[..], (kind, device)).at(step)?
        });
    }
    Ok(inputs)
}
