//! Learning rates over time.

use std::f64::consts::PI;

/// A linear warm-up, then half a cosine down to nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps over which the rate rises.
    pub warm_up: usize,
    /// Steps in all.
    pub steps: usize,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        let rise = ((step + 1) as f64 / self.warm_up.max(1) as f64).min(1.0);
        let fall = 0.5 * (1.0 + (PI * step as f64 / self.steps.max(1) as f64).cos());
        self.peak * rise * fall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_to_the_peak_and_fall_to_nothing() {
        let schedule = Schedule {
            peak: 0.1,
            warm_up: 10,
            steps: 100,
        };
        let rates: Vec<f64> = (0..100).map(|step| schedule.rate(step)).collect();
        let highest = rates.iter().copied().fold(0.0, f64::max);
        assert_eq!(rates.iter().position(|&rate| rate == highest), Some(9));
        assert!(highest > 0.09 && highest <= 0.1, "{highest}");
        assert!((rates[0] - 0.01).abs() < 1e-4 && rates[99] < 1e-4);
        assert!(rates[9..].windows(2).all(|pair| pair[1] < pair[0]));
    }
}
