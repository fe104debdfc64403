//! Learning rates over time.

use std::f64::consts::PI;

/// How a rate falls from its peak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fall {
    /// Not at all.
    Never,
    /// Along half a cosine, down to nothing.
    Cosine,
    /// By a factor after every so many epochs.
    Steps {
        /// The epochs.
        every: usize,
        /// The factor.
        factor: f64,
    },
    /// By a factor whenever so many epochs in a row were no better on held-back inputs.
    Plateau {
        /// The epochs.
        patience: usize,
        /// The factor.
        factor: f64,
    },
}

impl Fall {
    /// What the rate is multiplied by after epochs with these losses on held-back inputs.
    pub(crate) fn on(self, losses: impl Iterator<Item = f64>) -> f64 {
        let Self::Plateau { patience, factor } = self else {
            return 1.0;
        };
        let (mut best, mut worse, mut falls) = (f64::INFINITY, 0, 0);
        for loss in losses {
            match loss < best - LEAST_GAIN {
                true => (best, worse) = (loss, 0),
                false => worse += 1,
            }
            if worse >= patience.max(1) {
                (worse, falls) = (0, falls + 1);
            }
        }
        factor.powi(falls)
    }
}

/// By how much a loss must be smaller to be better.
const LEAST_GAIN: f64 = 1e-4;

/// The rates of one stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    /// The highest rate.
    pub(crate) peak: f64,
    /// Steps over which the rate rises.
    pub(crate) warm_up: usize,
    /// How it falls.
    pub(crate) fall: Fall,
    /// Steps in all.
    pub(crate) steps: usize,
    /// Steps of an epoch.
    pub(crate) epoch: usize,
}

impl Schedule {
    /// The rate of a step, counted from 0; what [`Fall::on`] says is apart.
    pub(crate) fn rate(&self, step: usize) -> f64 {
        let rise = ((step + 1) as f64 / self.warm_up.max(1) as f64).min(1.0);
        let fall = match self.fall {
            Fall::Never | Fall::Plateau { .. } => 1.0,
            Fall::Cosine => 0.5 * (1.0 + (PI * step as f64 / self.steps.max(1) as f64).cos()),
            Fall::Steps { every, factor } => {
                let times = step / self.epoch.max(1) / every.max(1);
                factor.powi(times.min(i32::MAX as usize) as i32)
            }
        };
        self.peak * rise * fall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARMED: Schedule = Schedule {
        peak: 0.1,
        warm_up: 10,
        fall: Fall::Cosine,
        steps: 100,
        epoch: 20,
    };

    #[test]
    fn rates_rise_to_the_peak_and_fall_to_nothing() {
        let rates: Vec<f64> = (0..100).map(|step| WARMED.rate(step)).collect();
        let highest = rates.iter().copied().fold(0.0, f64::max);
        assert_eq!(rates.iter().position(|&rate| rate == highest), Some(9));
        assert!(highest > 0.09 && highest <= 0.1, "{highest}");
        assert!((rates[0] - 0.01).abs() < 1e-4 && rates[99] < 1e-4);
        assert!(rates[9..].windows(2).all(|pair| pair[1] < pair[0]));
    }

    #[test]
    fn steps_fall_after_whole_epochs() {
        let schedule = Schedule {
            warm_up: 0,
            fall: Fall::Steps {
                every: 2,
                factor: 0.1,
            },
            ..WARMED
        };
        for (step, rate) in [(0, 0.1), (39, 0.1), (40, 0.01), (79, 0.01), (80, 0.001)] {
            assert!((schedule.rate(step) / rate - 1.0).abs() < 1e-12, "{step}");
        }
        let constant = Schedule {
            fall: Fall::Never,
            ..schedule
        };
        assert_eq!(constant.rate(99), 0.1);
    }

    #[test]
    fn rates_fall_where_nothing_gets_better() {
        let fall = Fall::Plateau {
            patience: 2,
            factor: 0.5,
        };
        let on = |losses: &[f64]| fall.on(losses.iter().copied());
        assert_eq!(on(&[]), 1.0);
        assert_eq!(on(&[1.0, 0.9, 0.95, 0.8]), 1.0);
        assert_eq!(on(&[1.0, 0.9, 0.95, 0.9]), 0.5);
        assert_eq!(on(&[1.0, 1.1, 1.2, 1.3, 1.4, 0.9]), 0.25);
        assert_eq!(Fall::Cosine.on([1.0, 2.0, 3.0].into_iter()), 1.0);
    }
}
