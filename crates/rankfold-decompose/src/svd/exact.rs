//! The exact methods: bidiagonal SVD, and the eigenvectors of the Gram matrix.

use ndarray::{Array1, Array2, ArrayView2, s};

use super::{Problem, Svd, SvdMethod};
use crate::blas;
use crate::dense::{self, ThinSvd};
use crate::error::Result;
use crate::rank::Truncation;
use crate::scalar::Scalar;
use crate::spectrum::{Spectrum, is_wide};

/// The SVD by bidiagonalisation, cut off.
pub(super) fn by_bidiagonal<T: Scalar>(
    problem: &Problem<'_, T>,
    truncation: Truncation,
) -> Result<Svd<T>> {
    let ThinSvd { u, s, vt } = dense::thin_svd(problem.a)?;
    let squared = s.iter().map(|x| x.as_f64() * x.as_f64()).collect();
    let rank = cut(&Spectrum::new(squared, 0.0, 1.0), truncation);
    let u = u.slice(s![.., ..rank]).to_owned();
    let s = s.slice(s![..rank]).to_owned();
    let vt = vt.slice(s![..rank, ..]).to_owned();
    let relative_error = problem.certify(&u, &s, &vt);
    Ok(Svd {
        u,
        s,
        vt,
        relative_error,
        method: SvdMethod::Dense,
        passes: 1,
    })
}

/// The SVD from V = the leading eigenvectors of AᵀA, refined through A·V.
///
/// Eigenvalues below ε·σ₁² drown in rounding; where the cut falls among those, a wide f32 matrix is
/// done again in f64, and then the bidiagonal SVD is used instead.
pub(super) fn by_gram<T: Scalar>(
    problem: &Problem<'_, T>,
    truncation: Truncation,
) -> Result<Svd<T>> {
    if is_wide::<T>(problem.cols()) {
        let gram = blas::gram_in_pieces(problem.a, problem.options.threads);
        let (values, vectors) = dense::eigh(gram.view())?;
        drop(gram);
        if let Some(rank) = safe_cut(&values, truncation) {
            return on_vectors(problem, vectors.slice(s![.., ..rank]).to_owned());
        }
    }
    problem.control.check()?;
    let gram = blas::gram_f64(problem.a, problem.options.threads);
    problem.control.check()?;
    let (values, vectors) = dense::eigh(gram.view())?;
    drop(gram);
    match safe_cut(&values, truncation) {
        Some(rank) => on_vectors(problem, vectors.slice(s![.., ..rank]).mapv(T::from_f64)),
        None => by_bidiagonal(problem, truncation),
    }
}

/// Where `truncation` cuts the eigenvalues, unless what it cuts off is of the size of their rounding.
fn safe_cut<T: Scalar>(values: &Array1<T>, truncation: Truncation) -> Option<usize> {
    let values: Vec<f64> = values.iter().map(|x| x.as_f64().max(0.0)).collect();
    let cols = values.len();
    let spectrum = Spectrum::new(values, 0.0, 1.0);
    let rank = cut(&spectrum, truncation);
    let tail = spectrum.relative_error(rank);
    (rank == cols || tail * tail >= 1e3 * T::EPS).then_some(rank)
}

/// The SVD of A on the span of orthonormal columns.
fn on_vectors<T: Scalar>(problem: &Problem<'_, T>, basis: Array2<T>) -> Result<Svd<T>> {
    problem.control.check()?;
    let image = blas::dot(problem.a, basis.view(), problem.options.threads);
    let (u, s, vt) = rayleigh_ritz(image.view(), basis.view(), problem)?;
    let relative_error = problem.certify(&u, &s, &vt);
    Ok(Svd {
        u,
        s,
        vt,
        relative_error,
        method: SvdMethod::Gram,
        passes: 2,
    })
}

/// The SVD of A on the span of an orthonormal `basis` V, from `image` = A·V: with A·V = Q·R and
/// R = X·diag(σ)·Yᵀ, it is (Q·X)·diag(σ)·(V·Y)ᵀ.
pub(super) fn rayleigh_ritz<T: Scalar>(
    image: ArrayView2<'_, T>,
    basis: ArrayView2<'_, T>,
    problem: &Problem<'_, T>,
) -> Result<(Array2<T>, Array1<T>, Array2<T>)> {
    let threads = problem.options.threads;
    let q = dense::orthonormal_basis(image);
    let r = blas::dot(q.t(), image, threads);
    let inner = dense::thin_svd(r.view())?;
    let u = blas::dot(q.view(), inner.u.view(), threads);
    let vt = blas::dot(inner.vt.view(), basis.t(), threads);
    Ok((u, inner.s, vt))
}

/// The rank at which `truncation` cuts a whole spectrum off.
pub(super) fn cut(spectrum: &Spectrum, truncation: Truncation) -> usize {
    match truncation {
        Truncation::Rank(rank) => rank.get(),
        Truncation::Tolerance(tolerance) => spectrum.rank_for(tolerance).unwrap_or(spectrum.len()),
    }
}
