//! Rank estimation by empirical variational Bayesian matrix factorisation.
//!
//! The global analytic solution of Nakajima, Sugiyama, Babacan and Tomioka (JMLR 14, 2013): for
//! Y = signal + Gaussian noise of variance σ², component i is kept exactly when its singular value is
//! above a threshold that depends on σ² and the shape alone (Theorem 2), and σ² minimises a function
//! of one variable (Corollary 1 and Theorem 3).

use ndarray::ArrayView2;

use crate::error::Result;
use crate::scalar::Scalar;
use crate::spectrum::{Spectrum, spectrum};
use crate::threads::Threads;

/// The rank that the evidence supports, and the noise that explains the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evbmf {
    /// Components above the noise; 0 where nothing is.
    pub rank: usize,
    /// The estimated variance of the noise in one element.
    pub noise_variance: f64,
}

/// The EVBMF estimate for `a`.
pub fn evbmf<T: Scalar>(a: ArrayView2<'_, T>, threads: Threads) -> Result<Evbmf> {
    Ok(evbmf_from_spectrum(
        &spectrum(a, threads)?,
        a.nrows(),
        a.ncols(),
    ))
}

/// The EVBMF estimate for a rows×cols matrix with this whole spectrum.
pub fn evbmf_from_spectrum(spectrum: &Spectrum, rows: usize, cols: usize) -> Evbmf {
    let energy = spectrum.tail(0);
    if energy <= 0.0 {
        return Evbmf {
            rank: 0,
            noise_variance: 0.0,
        };
    }
    // In units of the largest squared value, so that neither huge nor tiny matrices lose digits.
    let unit = spectrum.squared()[0];
    let values: Vec<f64> = spectrum.squared().iter().map(|x| x / unit).collect();
    let model = Model::new(&values, rows.min(cols), rows.max(cols));
    let variance = model.noise_variance(energy / unit);
    let threshold = model.long * variance * model.edge;
    let rank = values.iter().filter(|&&x| x > threshold).count();
    Evbmf {
        rank,
        noise_variance: variance * unit * spectrum.unit() * spectrum.unit(),
    }
}

/// The solution of Eq. (29) is τ̲ ≈ 2.5129·√α for every α in (0, 1].
const TAU: f64 = 2.5129;
/// Squared singular values below this share of the largest are rounding.
const ROUNDING: f64 = 1e-29;
/// Points of the logarithmic grid that brackets the global minimum.
const GRID: usize = 400;

struct Model<'a> {
    values: &'a [f64],
    short: usize,
    long: f64,
    alpha: f64,
    /// x̲ = (1 + τ̲)(1 + α/τ̲): the threshold on γ²/(M·σ²).
    edge: f64,
}

impl<'a> Model<'a> {
    fn new(values: &'a [f64], short: usize, long: usize) -> Self {
        let alpha = short as f64 / long as f64;
        let tau = TAU * alpha.sqrt();
        let edge = (1.0 + tau) * (1.0 + alpha / tau);
        Self {
            values,
            short,
            long: long as f64,
            alpha,
            edge,
        }
    }

    /// The global minimum of [`free_energy`](Self::free_energy) between the bounds of Theorem 3.
    fn noise_variance(&self, energy: f64) -> f64 {
        let most = ((self.short as f64 / (1.0 + self.alpha)).ceil() as usize).saturating_sub(1);
        let rest = &self.values[most.min(self.values.len() - 1)..];
        let mean = rest.iter().rev().sum::<f64>() / (self.short - most).max(1) as f64;
        let upper = energy / (self.short as f64 * self.long);
        let lower = (rest[0] / (self.long * self.edge))
            .max(mean / self.long)
            .max(ROUNDING * upper);
        let (low, high) = (lower.min(upper).ln(), upper.ln());
        let step = (high - low) / GRID as f64;
        let at = |i: usize| self.free_energy((low + step * i as f64).exp());
        let best = (0..=GRID)
            .min_by(|&i, &j| at(i).total_cmp(&at(j)))
            .unwrap_or(0);
        let left = low + step * best.saturating_sub(1) as f64;
        let right = low + step * (best + 1).min(GRID) as f64;
        golden_section(left, right, |x| self.free_energy(x.exp())).exp()
    }

    /// The free energy as a function of σ², up to a constant (Eq. 40):
    /// Σ ψ(γᵢ²/(M·σ²)) + (L − H)·ln σ², ψ(x) = x − ln x below x̲ and
    /// x − τ(x) + ln((τ(x) + 1)/x) + α·ln(τ(x)/α + 1) above.
    fn free_energy(&self, variance: f64) -> f64 {
        let unknown = (self.short - self.values.len()) as f64 * variance.ln();
        let term = |&value: &f64| {
            let x = value / (self.long * variance);
            if value <= ROUNDING {
                // ln γ² is the same for every σ².
                return x + variance.ln();
            }
            if x <= self.edge {
                return x - x.ln();
            }
            let tau = self.tau(x);
            x - tau + ((tau + 1.0) / x).ln() + self.alpha * (tau / self.alpha + 1.0).ln()
        };
        self.values.iter().map(term).sum::<f64>() + unknown
    }

    /// τ(x) = ½(x − (1 + α) + √((x − (1 + α))² − 4α)) (Eq. 27).
    fn tau(&self, x: f64) -> f64 {
        let shifted = x - (1.0 + self.alpha);
        0.5 * (shifted + (shifted * shifted - 4.0 * self.alpha).max(0.0).sqrt())
    }
}

/// The minimiser of a function with one minimum between `a` and `b`.
fn golden_section(mut a: f64, mut b: f64, f: impl Fn(f64) -> f64) -> f64 {
    let shrink = (5.0f64.sqrt() - 1.0) / 2.0;
    let (mut c, mut d) = (b - shrink * (b - a), a + shrink * (b - a));
    let (mut fc, mut fd) = (f(c), f(d));
    for _ in 0..60 {
        if fc < fd {
            (b, d, fd) = (d, c, fc);
            c = b - shrink * (b - a);
            fc = f(c);
        } else {
            (a, c, fc) = (c, d, fd);
            d = a + shrink * (b - a);
            fd = f(d);
        }
    }
    0.5 * (a + b)
}
