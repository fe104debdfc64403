//! The choice between the algorithms.

use super::{Problem, Svd, exact, krylov};
use crate::error::Result;
use crate::rank::Truncation;
use crate::scalar::Scalar;

/// An algorithm for the truncated SVD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SvdMethod {
    /// Chosen by shape and rank.
    #[default]
    Auto,
    /// Block Krylov: a few products with A and Aᵀ. Near-optimal, for ranks well below the size.
    Krylov,
    /// The eigenvectors of AᵀA in f64, then one product with A. Exact to the rounding of A for f32.
    Gram,
    /// A full bidiagonal SVD. Exact, for small matrices and ranks near the size.
    Dense,
}

/// Up to this many columns an exact method costs no more than an iterative one.
const SMALL: usize = 512;

pub(super) fn solve<T: Scalar>(problem: &Problem<'_, T>, truncation: Truncation) -> Result<Svd<T>> {
    match choose(problem, truncation) {
        SvdMethod::Krylov => krylov::solve(problem, truncation),
        SvdMethod::Gram => exact::by_gram(problem, truncation),
        SvdMethod::Dense | SvdMethod::Auto => exact::by_bidiagonal(problem, truncation),
    }
}

/// The method asked for, or the one with the fewest expected operations.
fn choose<T: Scalar>(problem: &Problem<'_, T>, truncation: Truncation) -> SvdMethod {
    if problem.options.method != SvdMethod::Auto {
        return problem.options.method;
    }
    let cols = problem.cols();
    match truncation {
        Truncation::Rank(rank) if cols > SMALL && rank.get() <= cols / 4 => SvdMethod::Krylov,
        Truncation::Rank(rank) if cols <= 64 || rank.get() > cols / 2 => SvdMethod::Dense,
        Truncation::Tolerance(_) if cols <= 64 => SvdMethod::Dense,
        Truncation::Tolerance(_) if cols > 2 * SMALL => SvdMethod::Krylov,
        _ => SvdMethod::Gram,
    }
}
