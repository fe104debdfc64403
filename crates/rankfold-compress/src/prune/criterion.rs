//! Which channels an activation wants to keep.

use super::activity::ChannelActivity;

/// What a criterion says of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Whether it should stay.
    pub keep: bool,
    /// How much it is worth against the others, should one of them have to stay.
    pub worth: f64,
}

impl Verdict {
    /// That of a channel for which nothing speaks.
    pub(super) const WORTHLESS: Self = Self {
        keep: false,
        worth: f64::NEG_INFINITY,
    };
}

/// By what channels stay. All compare a channel with the others of the same activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Criterion {
    /// It was active at least once (Çallı 2017).
    EverActive,
    /// It was active, and not so many standard deviations less often than the mean channel.
    OftenActive {
        /// How many.
        deviations: f64,
    },
    /// Its outputs vary, and the logarithm of their variance is not so many standard deviations below
    /// the mean of all that vary. Scaling a layer changes nothing.
    Varying {
        /// How many.
        deviations: f64,
    },
    /// ½·m < v < 1½·m of the mean m and the variance v of its outputs, as the code of Çallı (2017) has
    /// it. It depends on the scale of a layer.
    MeanVariance,
}

/// Share of the largest variance below which a channel is as good as constant.
const CONSTANT: f64 = 1e-10;

impl Criterion {
    /// What it says of every channel of an activation.
    pub fn verdicts(self, activity: &ChannelActivity) -> Vec<Verdict> {
        let verdict = |(keep, worth)| Verdict { keep, worth };
        match self {
            Self::EverActive => {
                let counts = counts(activity).into_iter();
                counts.map(|n| verdict((n > 0.0, n))).collect()
            }
            Self::OftenActive { deviations } => {
                let counts = counts(activity);
                let least = lower_bound(counts.iter().copied(), deviations);
                let counts = counts.into_iter();
                counts
                    .map(|n| verdict((n > 0.0 && n >= least, n)))
                    .collect()
            }
            Self::Varying { deviations } => {
                let logarithms = log_variances(&activity.variance);
                let varying = logarithms.iter().copied().filter(|v| v.is_finite());
                let least = lower_bound(varying, deviations);
                let logarithms = logarithms.into_iter();
                logarithms
                    .map(|v| verdict((v.is_finite() && v >= least, v)))
                    .collect()
            }
            Self::MeanVariance => {
                let pairs = activity.mean.iter().zip(&activity.variance);
                pairs
                    .map(|(m, v)| verdict((0.5 * m < *v && *v < 1.5 * m, *v)))
                    .collect()
            }
        }
    }
}

fn counts(activity: &ChannelActivity) -> Vec<f64> {
    activity.active.iter().map(|&n| n as f64).collect()
}

/// Logarithms of variances; −∞ for what is as good as constant.
fn log_variances(variances: &[f64]) -> Vec<f64> {
    let largest = variances.iter().copied().fold(0.0, f64::max);
    let logarithm = |&variance: &f64| match variance > CONSTANT * largest {
        true => variance.ln(),
        false => f64::NEG_INFINITY,
    };
    variances.iter().map(logarithm).collect()
}

/// So many standard deviations below the mean, rounding aside.
fn lower_bound(values: impl Iterator<Item = f64> + Clone, deviations: f64) -> f64 {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    mean - deviations * variance.sqrt() - f64::EPSILON * count * mean.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(active: &[u64], mean: &[f64], variance: &[f64]) -> ChannelActivity {
        ChannelActivity {
            active: active.to_vec(),
            mean: mean.to_vec(),
            variance: variance.to_vec(),
            samples: 100,
        }
    }

    fn kept(criterion: Criterion, activity: &ChannelActivity) -> Vec<bool> {
        let verdicts = criterion.verdicts(activity);
        verdicts.iter().map(|verdict| verdict.keep).collect()
    }

    #[test]
    fn counts_decide() {
        let mut active = vec![60; 9];
        active.extend([1, 0]);
        let seen = activity(&active, &[0.0; 11], &[0.0; 11]);
        let mut expected = vec![true; 11];
        expected[10] = false;
        assert_eq!(kept(Criterion::EverActive, &seen), expected);
        expected[9] = false;
        assert_eq!(
            kept(Criterion::OftenActive { deviations: 2.0 }, &seen),
            expected
        );
        let equal = activity(&[7; 3], &[0.0; 3], &[0.0; 3]);
        assert_eq!(
            kept(Criterion::OftenActive { deviations: 2.0 }, &equal),
            [true; 3]
        );
    }

    #[test]
    fn variances_decide_whatever_the_scale() {
        let varying = Criterion::Varying { deviations: 2.0 };
        let variances = [1.0, 1.1, 0.9, 1.2, 1.0, 0.8, 1.3, 1e-4, 0.0, 1e-15];
        for scale in [1e-6, 1.0, 1e6] {
            let scaled = variances.map(|v| v * scale);
            let seen = activity(&[1; 10], &[1.0; 10], &scaled);
            let expected: Vec<bool> = (0..10).map(|i| i < 7).collect();
            assert_eq!(kept(varying, &seen), expected, "{scale}");
        }
        let alike = activity(&[1; 5], &[1.0; 5], &[0.3; 5]);
        assert_eq!(kept(varying, &alike), [true; 5]);
        let constant = activity(&[1; 2], &[1.0; 2], &[0.0; 2]);
        assert_eq!(kept(varying, &constant), [false; 2]);
    }

    #[test]
    fn the_thesis_compares_a_variance_with_its_own_mean() {
        let seen = activity(&[1; 4], &[1.0, 1.0, 1.0, 0.0], &[1.0, 0.5, 1.6, 0.0]);
        assert_eq!(
            kept(Criterion::MeanVariance, &seen),
            [true, false, false, false]
        );
    }
}
