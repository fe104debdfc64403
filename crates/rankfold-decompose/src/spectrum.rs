//! Singular value spectra and the truncation errors that they imply.

use ndarray::ArrayView2;

use crate::blas;
use crate::check;
use crate::dense;
use crate::error::Result;
use crate::rank::Tolerance;
use crate::scalar::Scalar;
use crate::scale;
use crate::threads::Threads;

/// The leading squared singular values of a matrix, largest first, and the sum of the others.
///
/// By Eckart–Young the error of the best approximation with r components is the tail:
/// err(r)² = Σ_{i>r} σᵢ² / Σ σᵢ².
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    squared: Vec<f64>,
    rest: f64,
}

impl Spectrum {
    /// A spectrum of known squared values, and what the unknown ones add up to.
    pub(crate) fn new(squared: Vec<f64>, rest: f64) -> Self {
        Self {
            squared,
            rest: rest.max(0.0),
        }
    }

    /// The known squared singular values, largest first.
    pub fn squared(&self) -> &[f64] {
        &self.squared
    }

    /// The squared Frobenius norm of the matrix.
    pub fn norm_sq(&self) -> f64 {
        self.tail(0)
    }

    /// The relative Frobenius error of the best approximation with `rank` components; 0 for a zero
    /// matrix. Beyond the known values it is the error at the last of them.
    pub fn relative_error(&self, rank: usize) -> f64 {
        let norm_sq = self.norm_sq();
        if norm_sq > 0.0 {
            (self.tail(rank) / norm_sq).sqrt()
        } else {
            0.0
        }
    }

    /// The relative errors at `ranks`, in the same order.
    pub fn relative_errors(&self, ranks: &[usize]) -> Vec<f64> {
        ranks
            .iter()
            .map(|&rank| self.relative_error(rank))
            .collect()
    }

    /// The fewest components (at least one) with a relative error of at most `tolerance`, or `None`
    /// where the known values do not reach it.
    pub fn rank_for(&self, tolerance: Tolerance) -> Option<usize> {
        let allowed = tolerance.get() * tolerance.get() * self.norm_sq();
        let mut tail = self.rest;
        if tail > allowed {
            return None;
        }
        for (index, &value) in self.squared.iter().enumerate().rev() {
            tail += value;
            if tail > allowed {
                return Some(index + 1);
            }
        }
        Some(1)
    }

    fn tail(&self, rank: usize) -> f64 {
        self.squared
            .iter()
            .skip(rank)
            .rev()
            .fold(self.rest, |sum, x| sum + x)
    }
}

/// The whole spectrum of `a`: min(m, n) values, the eigenvalues of the smaller Gram matrix in f64.
pub fn spectrum<T: Scalar>(a: ArrayView2<'_, T>, threads: Threads) -> Result<Spectrum> {
    check::finite("matrix", &a)?;
    let scaled = scale::moderate(a);
    let a = scaled.view();
    let tall = if a.nrows() >= a.ncols() {
        a
    } else {
        a.reversed_axes()
    };
    let gram = blas::gram_f64(tall, threads);
    let values = dense::eigenvalues(gram.view())?;
    let unit = scaled.unit() * scaled.unit();
    Ok(Spectrum::new(
        values.iter().map(|x| x.max(0.0) * unit).collect(),
        0.0,
    ))
}
