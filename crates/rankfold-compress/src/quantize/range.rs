//! From what was observed of a value to the numbers that it is rounded to.

use std::fmt;

use rankfold_graph::ops::Quantize;

/// What was seen of a value on some inputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// The smallest number.
    pub min: f32,
    /// The largest.
    pub max: f32,
    /// Some of the numbers, spread over the inputs, in ascending order.
    pub sample: Vec<f32>,
    /// The largest magnitude in every channel; empty where the value has no channels.
    pub channels: Vec<f32>,
}

/// How a range follows from what was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeRule {
    /// From the smallest number to the largest.
    Full,
    /// Without the ten-thousandth part at either end.
    Percentile,
    /// Where the rounded sample's squared error is least.
    LeastSquares,
}

/// The share of a sample that [`RangeRule::Percentile`] leaves out at either end.
const LEFT_OUT: f64 = 1e-4;

/// The ranges that [`RangeRule::LeastSquares`] tries: the full one, and so many shorter ones.
const SHORTER: usize = 40;

/// The largest of all whole numbers that stand for a value's.
const LAST: f32 = 255.0;

impl RangeRule {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Percentile, Self::LeastSquares];

    /// What a value's numbers are rounded to.
    pub fn rounding(self, observed: &Observed) -> Quantize {
        let full = [observed.min, observed.max];
        match self {
            Self::Full => spaced(full),
            Self::Percentile => spaced(percentile(observed).unwrap_or(full)),
            Self::LeastSquares => least_squares(observed),
        }
    }
}

impl fmt::Display for RangeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Percentile => "percentile",
            Self::LeastSquares => "least-squares",
        })
    }
}

/// 256 evenly spaced numbers from one end to the other, one of them zero.
fn spaced([low, high]: [f32; 2]) -> Quantize {
    let (low, high) = (low.min(0.0), high.max(0.0));
    let scale = high / LAST - low / LAST;
    if !(scale.is_finite() && scale >= f32::MIN_POSITIVE) {
        return Quantize {
            scale: 1.0,
            zero_point: 0,
        };
    }
    Quantize {
        scale,
        zero_point: (-low / scale).round().clamp(0.0, LAST) as u8,
    }
}

fn percentile(observed: &Observed) -> Option<[f32; 2]> {
    let sample = &observed.sample;
    let cut = (sample.len() as f64 * LEFT_OUT).ceil() as usize;
    let last = sample.len().checked_sub(1)?;
    let [low, high] = [sample.get(cut)?, sample.get(last.checked_sub(cut)?)?];
    Some([*low, *high])
}

fn least_squares(observed: &Observed) -> Quantize {
    let shorter = |step: usize| {
        let share = 1.0 - 0.75 * step as f32 / SHORTER as f32;
        spaced([observed.min * share, observed.max * share])
    };
    let mut best = shorter(0);
    let mut least = squared_error(&best, &observed.sample);
    for candidate in (1..=SHORTER).map(shorter) {
        let error = squared_error(&candidate, &observed.sample);
        if error < least {
            (best, least) = (candidate, error);
        }
    }
    best
}

fn squared_error(rounding: &Quantize, sample: &[f32]) -> f64 {
    let (scale, zero) = (rounding.scale, f32::from(rounding.zero_point));
    let error = |&x: &f32| {
        let place = ((x / scale).round_ties_even() + zero).clamp(0.0, LAST);
        f64::from(x - (place - zero) * scale).powi(2)
    };
    sample.iter().map(error).sum()
}
