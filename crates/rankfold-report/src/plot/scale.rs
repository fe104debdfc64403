//! From values to places, and the values at which an axis is marked.

/// How values are spread along an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spread {
    Linear,
    /// By their logarithm; what is not positive has no place.
    Log,
    /// Evenly up to about this value on both sides of zero, by their logarithm beyond.
    Beyond(f64),
}

/// Values beyond this are shown on no axis.
const FAR: f64 = 1e30;

/// An axis from values to places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    spread: Spread,
    domain: [f64; 2],
    range: [f64; 2],
}

impl Scale {
    /// A scale on which `values` have a place, between `range`, with a little air; from zero on where
    /// `zero` says so.
    pub(crate) fn around(
        values: impl Iterator<Item = f64>,
        spread: Spread,
        zero: bool,
        range: [f64; 2],
    ) -> Self {
        let usable = |v: &f64| match spread {
            Spread::Linear | Spread::Beyond(_) => v.abs() <= FAR,
            Spread::Log => *v >= 1.0 / FAR && *v <= FAR,
        };
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(usable) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let domain = match spread {
            Spread::Log => {
                let air = ((high / low).ln() * 0.05).max(0.1).exp();
                [low / air, high * air]
            }
            Spread::Linear => with_air([low, high], zero),
            Spread::Beyond(knee) => {
                let even = [low, high].map(|end| (end / knee).asinh());
                with_air(even, zero).map(|end| knee * end.sinh())
            }
        };
        Self {
            spread,
            domain,
            range,
        }
    }

    /// The place of a value.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let place = match self.spread {
            Spread::Linear => (value - self.domain[0]) / (self.domain[1] - self.domain[0]),
            Spread::Beyond(knee) => {
                let [low, high] = self.domain.map(|end| (end / knee).asinh());
                ((value / knee).asinh() - low) / (high - low)
            }
            Spread::Log => {
                let low = self.domain[0].ln();
                (value.max(f64::MIN_POSITIVE).ln() - low) / (self.domain[1].ln() - low)
            }
        };
        self.range[0] + place * (self.range[1] - self.range[0])
    }

    /// The value, or the end of the axis that it lies beyond.
    pub(crate) fn within(&self, value: f64) -> f64 {
        value.clamp(self.domain[0], self.domain[1])
    }

    /// True where a value lies on the axis.
    pub(crate) fn has(&self, value: f64) -> bool {
        value >= self.domain[0] && value <= self.domain[1]
    }

    /// Round values along the axis, about `count` of them.
    pub(crate) fn ticks(&self, count: usize) -> Vec<f64> {
        match self.spread {
            Spread::Linear => linear(self.domain, count),
            Spread::Log => log(self.domain, count),
            Spread::Beyond(knee) => beyond(self.domain, knee, count),
        }
    }
}

/// The ends of an axis with a little air beyond them, but none below a zero where it begins.
fn with_air([mut low, mut high]: [f64; 2], zero: bool) -> [f64; 2] {
    if zero {
        (low, high) = (low.min(0.0), high.max(0.0));
    }
    let size = high - low;
    let air = match size > 0.0 {
        true => 0.06 * size,
        false => high.abs().max(1.0) * 0.05,
    };
    [if zero && low == 0.0 { 0.0 } else { low - air }, high + air]
}

/// Zero, and round values of both signs from the knee on: every one, or every second or third where
/// they would be many.
fn beyond([low, high]: [f64; 2], knee: f64, count: usize) -> Vec<f64> {
    let first = knee.log10().floor() as i32;
    let round =
        (first..first + 30).flat_map(|power| [1.0, 3.0].map(|part| part * 10f64.powi(power)));
    let round: Vec<f64> = round
        .skip_while(|tick| *tick < knee)
        .take_while(|tick| *tick <= high.max(-low))
        .collect();
    let signed = |every: usize| -> Vec<f64> {
        let kept = || round.iter().rev().step_by(every);
        let negative = kept().map(|tick| -tick);
        let positive = round
            .iter()
            .skip((round.len() + every - 1) % every)
            .step_by(every)
            .copied();
        (negative.chain([0.0]).chain(positive))
            .filter(|tick| *tick >= low && *tick <= high)
            .collect()
    };
    let most = count + 1;
    let found = (1..4).map(signed).find(|ticks| ticks.len() <= most);
    found.unwrap_or_else(|| signed(4))
}

fn linear([low, high]: [f64; 2], count: usize) -> Vec<f64> {
    let rough = (high - low) / count.max(1) as f64;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|m| m * unit)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(rough);
    if !(step > 0.0 && step.is_finite()) {
        return Vec::new();
    }
    let first = (low / step).ceil();
    (0..=2 * count)
        .map(|i| (first + i as f64) * step)
        .take_while(|tick| *tick <= high)
        // A negative zero would be written with its sign.
        .map(|tick| if tick == 0.0 { 0.0 } else { tick })
        .collect()
}

fn log([low, high]: [f64; 2], count: usize) -> Vec<f64> {
    let decades = (high / low).log10();
    let most = count as f64 * 1.5;
    let parts: &[f64] = match decades {
        d if 6.0 * d <= most => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
        d if 3.0 * d <= most => &[1.0, 2.0, 5.0],
        d if 2.0 * d <= most => &[1.0, 3.0],
        _ => &[1.0],
    };
    let every = (decades / count.max(1) as f64).ceil().max(1.0) as i32;
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    (first..=last)
        .filter(|power| power % every == 0)
        .flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)))
        .filter(|tick| *tick >= low && *tick <= high)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(values: &[f64], spread: Spread, zero: bool) -> Scale {
        Scale::around(values.iter().copied(), spread, zero, [0.0, 100.0])
    }

    #[test]
    fn every_value_has_a_place_within_the_axis() {
        for values in [
            &[3.0, 8.0][..],
            &[5.0],
            &[-1.0, 0.0, 4.0],
            &[1e-30, 1e30],
            &[-1e30, 1e30],
            &[0.0],
        ] {
            for (spread, zero) in [
                (Spread::Linear, false),
                (Spread::Linear, true),
                (Spread::Log, false),
                (Spread::Beyond(0.5), true),
            ] {
                let scale = around(values, spread, zero);
                for &value in values
                    .iter()
                    .filter(|v| spread == Spread::Linear || **v > 0.0)
                {
                    let at = scale.at(value);
                    assert!(
                        (0.0..=100.0).contains(&at),
                        "{values:?} {spread:?}: {value} at {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn axes_are_marked_at_round_values() {
        let round = |values: &[f64]| around(values, Spread::Linear, true).ticks(5);
        assert_eq!(round(&[0.0, 100.0]), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(round(&[0.0, 1.0]), [0.0, 0.25, 0.5, 0.75, 1.0]);
        let log = around(&[0.001, 1.0], Spread::Log, false).ticks(4);
        assert_eq!(log.len(), 4);
        assert!((log[0] - 0.001).abs() < 1e-9 && (log[3] - 1.0).abs() < 1e-9);
    }

    #[test]
    fn beyond_a_knee_values_spread_by_their_logarithm() {
        let scale = around(&[-0.5, 80.0], Spread::Beyond(0.4), true);
        assert_eq!(scale.ticks(4), [0.0, 1.0, 10.0, 100.0]);
        let places: Vec<f64> = [1.0, 10.0, 80.0].iter().map(|&v| scale.at(v)).collect();
        assert!(
            (places[1] - places[0]) > 0.7 * (places[2] - places[1]),
            "{places:?}"
        );
        assert_eq!(
            around(&[-300.0, 0.0], Spread::Beyond(1.0), true).ticks(4),
            [-300.0, -30.0, -3.0, 0.0]
        );
    }

    #[test]
    fn nothing_and_infinities_leave_an_axis() {
        for values in [&[][..], &[f64::NAN, f64::INFINITY, 1e300]] {
            let scale = around(values, Spread::Linear, false);
            assert!(scale.at(2.0).is_finite());
            assert!(!scale.ticks(4).is_empty());
        }
    }
}
