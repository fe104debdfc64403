//! Notices that a loss runs away.

use serde::{Deserialize, Serialize};

/// How often the running level of a loss may be exceeded before it counts as lost: by the last few
/// steps, and by a single one.
const FAR_ABOVE: (f64, f64) = (3.0, 30.0);
/// Steps before the last few are told from all.
const SETTLING: u64 = 5;
const FAST: f64 = 0.2;
const SLOW: f64 = 0.02;

/// A loss over the last few steps, and over the last fifty or so.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Level {
    steps: u64,
    recent: f64,
    usual: f64,
}

impl Level {
    /// Takes in a loss; false where it is no number or, with those just before it, far above the level.
    pub(crate) fn holds(&mut self, loss: f64) -> bool {
        if !loss.is_finite() {
            return false;
        }
        let jumped = self.steps > 0 && loss > FAR_ABOVE.1 * self.usual;
        self.steps += 1;
        let follow = |mean: f64, share: f64, steps: u64| {
            // The first steps count alike, so that the level starts at what is seen.
            let share = share.max(1.0 / steps as f64);
            mean + share * (loss - mean)
        };
        self.recent = follow(self.recent, FAST, self.steps);
        self.usual = follow(self.usual, SLOW, self.steps);
        let above = self.steps > SETTLING && self.recent > FAR_ABOVE.0 * self.usual;
        !jumped && !above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_borne_and_a_runaway_is_not() {
        let mut level = Level::default();
        for step in 0..500 {
            let noise = if step % 7 == 0 { 2.5 } else { 0.8 };
            assert!(
                level.holds(noise * (1.0 - f64::from(step) / 600.0)),
                "{step}"
            );
        }
        let noticed = (0..20).position(|step| !level.holds(0.3 * 1.8f64.powi(step)));
        assert!(noticed.is_some_and(|step| step < 10), "{noticed:?}");
        let mut level = Level::default();
        assert!(level.holds(1.0) && !level.holds(1e9), "a jump at the start");
        assert!(!Level::default().holds(f64::NAN));
        assert!(!Level::default().holds(f64::INFINITY));
    }

    #[test]
    fn a_single_odd_batch_is_borne() {
        let mut level = Level::default();
        for _ in 0..200 {
            assert!(level.holds(1.0));
        }
        assert!(level.holds(9.0));
        assert!(level.holds(1.0));
    }
}
