//! Singular value spectra and the truncation errors that they imply.

use ndarray::ArrayView2;

use crate::blas;
use crate::dense;
use crate::error::Result;
use crate::rank::Tolerance;
use crate::scalar::Scalar;
use crate::scale;
use crate::threads::Threads;

/// The leading singular values of a matrix, largest first, and what the others add up to.
///
/// By Eckart–Young the error of the best approximation with r components is the tail:
/// err(r)² = Σ_{i>r} σᵢ² / Σ σᵢ².
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    /// σᵢ² in units of `unit`².
    squared: Vec<f64>,
    /// What the σᵢ² after the known ones add up to, in units of `unit`².
    rest: f64,
    unit: f64,
}

impl Spectrum {
    /// A spectrum of known squared values and the sum of the unknown ones, in units of `unit`².
    pub(crate) fn new(squared: Vec<f64>, rest: f64, unit: f64) -> Self {
        Self {
            squared,
            rest: rest.max(0.0),
            unit,
        }
    }

    /// The known singular values, largest first.
    pub fn singular_values(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.squared.iter().map(|x| x.sqrt() * self.unit)
    }

    /// The number of known singular values.
    pub fn len(&self) -> usize {
        self.squared.len()
    }

    /// Whether no singular value is known.
    pub fn is_empty(&self) -> bool {
        self.squared.is_empty()
    }

    /// The relative Frobenius error of the best approximation with `rank` components; 0 for a zero
    /// matrix. Beyond the known values it is the error at the last of them.
    pub fn relative_error(&self, rank: usize) -> f64 {
        let (tail, norm_sq) = (self.tail(rank), self.tail(0));
        if norm_sq > 0.0 {
            (tail / norm_sq).sqrt()
        } else {
            0.0
        }
    }

    /// The fewest components (at least one) with a relative error of at most `tolerance`, or `None`
    /// where the known values do not reach it.
    pub fn rank_for(&self, tolerance: Tolerance) -> Option<usize> {
        let allowed = tolerance.get() * tolerance.get() * self.tail(0);
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

    /// The Frobenius norm of the matrix.
    pub fn norm(&self) -> f64 {
        self.tail(0).sqrt() * self.unit
    }

    /// The squared values in units of [`unit`](Self::unit)², largest first.
    pub(crate) fn squared(&self) -> &[f64] {
        &self.squared
    }

    pub(crate) fn unit(&self) -> f64 {
        self.unit
    }

    /// Σ_{i>rank} σᵢ² in units of [`unit`](Self::unit)².
    pub(crate) fn tail(&self, rank: usize) -> f64 {
        self.squared
            .iter()
            .skip(rank)
            .rev()
            .fold(self.rest, |sum, x| sum + x)
    }
}

/// Up to this many columns the values of an f64 matrix come from its SVD; those of the Gram matrix
/// lose what is below √ε of the largest.
const DIRECT: usize = 1024;

/// From this many columns on the eigenproblem of an f32 matrix is solved in f32: it is bound by memory,
/// and takes seconds.
const WIDE: usize = 2048;

/// True where an eigenproblem of this size is solved in the type of its matrix rather than in f64.
pub(crate) fn is_wide<T: Scalar>(cols: usize) -> bool {
    T::EPS > f64::EPSILON && cols >= WIDE
}

/// The whole spectrum of `a`: min(m, n) values, the eigenvalues of the smaller Gram matrix in f64 (for
/// small f64 matrices, the singular values themselves).
///
/// For f32 matrices with 2,048 rows and columns or more all of it is done in f32, which leaves the
/// squared relative errors exact to about 1e-6.
pub fn spectrum<T: Scalar>(a: ArrayView2<'_, T>, threads: Threads) -> Result<Spectrum> {
    let scaled = scale::checked("matrix", a, threads)?;
    let a = scaled.view();
    let tall = if a.nrows() >= a.ncols() {
        a
    } else {
        a.reversed_axes()
    };
    let squared: Vec<f64> = if T::EPS <= f64::EPSILON && tall.ncols() <= DIRECT {
        let values = dense::singular_values(tall)?;
        values.iter().map(|x| x.as_f64() * x.as_f64()).collect()
    } else if is_wide::<T>(tall.ncols()) {
        let gram = blas::gram_in_pieces(tall, threads);
        let values = dense::eigenvalues(gram.view())?;
        values.iter().map(|x| x.as_f64().max(0.0)).collect()
    } else {
        let gram = blas::gram_f64(tall, threads);
        dense::eigenvalues(gram.view())?
            .iter()
            .map(|x| x.max(0.0))
            .collect()
    };
    Ok(Spectrum::new(squared, 0.0, scaled.unit()))
}
