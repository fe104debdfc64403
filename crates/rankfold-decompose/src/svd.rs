//! Truncated singular value decomposition with a certified error.

mod exact;
mod krylov;
mod method;

use ndarray::{Array1, Array2, ArrayView2, Axis};

pub use method::SvdMethod;

use crate::blas;
use crate::check;
use crate::control::Control;
use crate::error::{DecomposeError, Result};
use crate::rank::Truncation;
use crate::scalar::Scalar;
use crate::scale;
use crate::spectrum::Spectrum;
use crate::threads::Threads;

/// How an SVD is computed.
#[derive(Debug, Clone, PartialEq)]
pub struct SvdOptions {
    /// The algorithm; [`SvdMethod::Auto`] chooses by shape and rank.
    pub method: SvdMethod,
    /// How far above the optimum the error of an iterative method may stay, relatively.
    pub excess: f64,
    /// Seed of the random start of an iterative method.
    pub seed: u64,
    /// The cores to use.
    pub threads: Threads,
}

impl Default for SvdOptions {
    fn default() -> Self {
        Self {
            method: SvdMethod::Auto,
            excess: 8e-4,
            seed: 0,
            threads: Threads::Pool,
        }
    }
}

/// A truncated SVD: A ≈ U·diag(σ)·Vᵀ.
#[derive(Debug, Clone, PartialEq)]
pub struct Svd<T> {
    /// Left singular vectors, orthonormal columns: m×r.
    pub u: Array2<T>,
    /// Singular values, largest first: r.
    pub s: Array1<T>,
    /// Right singular vectors, orthonormal rows: r×n.
    pub vt: Array2<T>,
    /// ‖A − U·diag(σ)·Vᵀ‖ / ‖A‖; 0 for a zero matrix.
    pub relative_error: f64,
    /// The algorithm that was used.
    pub method: SvdMethod,
    /// How often A was read from end to end in products.
    pub passes: usize,
}

impl<T: Scalar> Svd<T> {
    /// The number of components.
    pub fn rank(&self) -> usize {
        self.s.len()
    }

    /// The two factors with the singular values split evenly: U·√σ (m×r) and √σ·Vᵀ (r×n).
    pub fn balanced(&self) -> (Array2<T>, Array2<T>) {
        let root = self.s.mapv(|x| x.sqrt());
        (&self.u * &root, &self.vt * &root.insert_axis(Axis(1)))
    }

    /// The leading spectrum: the singular values, and what they leave of ‖A‖².
    pub fn spectrum(&self) -> Spectrum {
        let unit = self.s.first().map_or(0.0, |x| x.as_f64());
        let relative = |x: &T| {
            if unit > 0.0 {
                (x.as_f64() / unit).powi(2)
            } else {
                0.0
            }
        };
        let squared: Vec<f64> = self.s.iter().map(relative).collect();
        let known: f64 = squared.iter().sum();
        let missing = self.relative_error * self.relative_error;
        Spectrum::new(squared, known * missing / (1.0 - missing), unit)
    }

    fn transposed(self) -> Self {
        Self {
            u: self.vt.reversed_axes(),
            vt: self.u.reversed_axes(),
            ..self
        }
    }
}

/// The truncated SVD of `a`, of any strides.
///
/// The error of the result is certified without forming the reconstruction: for orthonormal V and
/// Σσ̂² = ‖A·V‖² it is err² = ‖A‖² − Σσ̂², in f64; where that difference drowns in rounding, the
/// residual is measured block by block instead.
pub fn svd<T: Scalar>(
    a: ArrayView2<'_, T>,
    truncation: Truncation,
    options: &SvdOptions,
    control: Control<'_>,
) -> Result<Svd<T>> {
    let scaled = scale::checked("matrix", a, options.threads)?;
    if !(options.excess.is_finite() && options.excess >= 0.0) {
        return Err(DecomposeError::InvalidOption {
            option: "the excess",
            expected: "finite and at least 0",
            got: options.excess,
        });
    }
    let smaller = a.nrows().min(a.ncols());
    if let Truncation::Rank(rank) = truncation {
        rank.at_most(smaller, "matrix")?;
    }
    control.check()?;
    if scaled.norm_sq() == 0.0 {
        return Ok(zero(a, truncation));
    }
    let a = scaled.view();
    let wide = a.nrows() < a.ncols();
    let tall = if wide { a.reversed_axes() } else { a };
    let problem = Problem {
        a: tall,
        norm_sq: scaled.norm_sq(),
        options,
        control,
    };
    let mut result = method::solve(&problem, truncation)?;
    result.s *= T::from_f64(scaled.unit());
    Ok(if wide { result.transposed() } else { result })
}

/// Below this many units of rounding a difference of squares no longer certifies an error to three
/// digits, and the residual is measured instead.
pub(crate) const CANCELLATION: f64 = 1e5;

/// One SVD to compute: a tall matrix of moderate scale that is not zero.
struct Problem<'a, T> {
    a: ArrayView2<'a, T>,
    norm_sq: f64,
    options: &'a SvdOptions,
    control: Control<'a>,
}

impl<T: Scalar> Problem<'_, T> {
    fn cols(&self) -> usize {
        self.a.ncols()
    }

    /// The relative error of a projection that keeps `captured` of ‖A‖².
    fn error_of(&self, captured: f64) -> f64 {
        ((self.norm_sq - captured).max(0.0) / self.norm_sq).sqrt()
    }

    /// The certified relative error of U·diag(σ)·Vᵀ.
    fn certify(&self, u: &Array2<T>, s: &Array1<T>, vt: &Array2<T>) -> f64 {
        let captured: f64 = s.iter().map(|x| x.as_f64() * x.as_f64()).sum();
        let error = self.error_of(captured);
        if error * error > CANCELLATION * T::EPS {
            return error;
        }
        (self.residual_sq(u, s, vt) / self.norm_sq).sqrt()
    }

    /// ‖A − U·diag(σ)·Vᵀ‖², a block of rows at a time.
    fn residual_sq(&self, u: &Array2<T>, s: &Array1<T>, vt: &Array2<T>) -> f64 {
        const ROWS: usize = 256;
        let blocks = self.a.axis_chunks_iter(Axis(0), ROWS);
        let blocks = blocks.zip(u.axis_chunks_iter(Axis(0), ROWS)).collect();
        let sums = self.options.threads.map(blocks, |(a, u)| {
            let mut rest = a.to_owned();
            let us = &u * s;
            blas::gemm(
                -T::one(),
                us.view(),
                vt.view(),
                true,
                rest.view_mut(),
                Threads::Serial,
            );
            check::norm_sq(&rest)
        });
        sums.iter().sum()
    }
}

/// The SVD of a zero matrix: σ = 0 between leading unit vectors.
fn zero<T: Scalar>(a: ArrayView2<'_, T>, truncation: Truncation) -> Svd<T> {
    let rank = match truncation {
        Truncation::Rank(rank) => rank.get(),
        Truncation::Tolerance(_) => 1,
    };
    let mut u = Array2::zeros((a.nrows(), rank));
    let mut vt = Array2::zeros((rank, a.ncols()));
    u.diag_mut().fill(T::one());
    vt.diag_mut().fill(T::one());
    Svd {
        u,
        s: Array1::zeros(rank),
        vt,
        relative_error: 0.0,
        method: SvdMethod::Dense,
        passes: 0,
    }
}
