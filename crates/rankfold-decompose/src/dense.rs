//! Dense factorisations of small matrices: symmetric eigen, SVD, QR and Cholesky.
//!
//! All of them run on the calling thread, so that their bits do not depend on the thread policy.

use faer::diag::DiagMut;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt;
use faer::linalg::evd::{self, ComputeEigenvectors};
use faer::linalg::householder;
use faer::linalg::qr::no_pivoting::factor as qr;
use faer::linalg::svd::{self, ComputeSvdVectors};
use faer::{Conj, Mat, Par, Spec};
use faer_traits::RealField;
use faer_traits::math_utils::{one, zero};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, ShapeBuilder, s};

use crate::blas::{mat_mut, mat_ref};
use crate::error::{DecomposeError, Result};
use crate::scalar::Scalar;
use crate::scalar::engine::Triples;

/// The eigenvalues of a symmetric matrix, largest first, and the eigenvectors as columns.
///
/// Only the lower triangle is read.
pub(crate) fn eigh<T: Scalar>(a: ArrayView2<'_, T>) -> Result<(Array1<T>, Array2<T>)> {
    T::eigh(a)
}

pub(crate) fn faer_eigh<T: RealField + Copy>(
    a: ArrayView2<'_, T>,
) -> Result<(Array1<T>, Array2<T>)> {
    let n = a.nrows();
    let mut values = vec![zero::<T>(); n];
    let mut vectors = zeros::<T>((n, n));
    let scratch =
        evd::self_adjoint_evd_scratch::<T>(n, ComputeEigenvectors::Yes, Par::Seq, Spec::default());
    evd::self_adjoint_evd(
        mat_ref(&a),
        DiagMut::from_slice_mut(&mut values),
        Some(mat_mut(&mut vectors.view_mut())),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| eigen_failure(n))?;
    values.reverse();
    vectors.invert_axis(ndarray::Axis(1));
    Ok((Array1::from_vec(values), vectors))
}

/// The eigenvalues of a symmetric matrix, largest first. Only the lower triangle is read.
pub(crate) fn eigenvalues<T: Scalar>(a: ArrayView2<'_, T>) -> Result<Array1<T>> {
    T::eigenvalues(a)
}

pub(crate) fn faer_eigenvalues<T: RealField + Copy>(a: ArrayView2<'_, T>) -> Result<Array1<T>> {
    let n = a.nrows();
    let mut values = vec![zero::<T>(); n];
    let scratch =
        evd::self_adjoint_evd_scratch::<T>(n, ComputeEigenvectors::No, Par::Seq, Spec::default());
    evd::self_adjoint_evd(
        mat_ref(&a),
        DiagMut::from_slice_mut(&mut values),
        None,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| eigen_failure(n))?;
    values.reverse();
    Ok(Array1::from_vec(values))
}

fn eigen_failure(n: usize) -> DecomposeError {
    DecomposeError::NoConvergence {
        routine: "the symmetric eigendecomposition",
        rows: n,
        cols: n,
    }
}

/// A thin SVD: U (m×k), σ (k, largest first) and Vᵀ (k×n), k = min(m, n).
pub(crate) struct ThinSvd<T> {
    pub(crate) u: Array2<T>,
    pub(crate) s: Array1<T>,
    pub(crate) vt: Array2<T>,
}

/// The thin SVD of `a` by bidiagonalisation and divide and conquer.
pub(crate) fn thin_svd<T: Scalar>(a: ArrayView2<'_, T>) -> Result<ThinSvd<T>> {
    let (u, s, vt) = T::thin_svd(a)?;
    Ok(ThinSvd { u, s, vt })
}

pub(crate) fn faer_thin_svd<T: RealField + Copy>(a: ArrayView2<'_, T>) -> Result<Triples<T>> {
    let (m, n) = a.dim();
    let k = m.min(n);
    let mut s = vec![zero::<T>(); k];
    let mut u = zeros::<T>((m, k));
    let mut v = zeros::<T>((n, k));
    let scratch = svd::svd_scratch::<T>(
        m,
        n,
        ComputeSvdVectors::Thin,
        ComputeSvdVectors::Thin,
        Par::Seq,
        Spec::default(),
    );
    svd::svd(
        mat_ref(&a),
        DiagMut::from_slice_mut(&mut s),
        Some(mat_mut(&mut u.view_mut())),
        Some(mat_mut(&mut v.view_mut())),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| svd_failure(m, n))?;
    Ok((u, Array1::from_vec(s), v.reversed_axes()))
}

/// The singular values of `a`, largest first.
pub(crate) fn singular_values<T: Scalar>(a: ArrayView2<'_, T>) -> Result<Array1<T>> {
    T::singular_values(a)
}

pub(crate) fn faer_singular_values<T: RealField + Copy>(a: ArrayView2<'_, T>) -> Result<Array1<T>> {
    let (m, n) = a.dim();
    let mut s = vec![zero::<T>(); m.min(n)];
    let none = ComputeSvdVectors::No;
    let scratch = svd::svd_scratch::<T>(m, n, none, none, Par::Seq, Spec::default());
    svd::svd(
        mat_ref(&a),
        DiagMut::from_slice_mut(&mut s),
        None,
        None,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| svd_failure(m, n))?;
    Ok(Array1::from_vec(s))
}

fn svd_failure(rows: usize, cols: usize) -> DecomposeError {
    DecomposeError::NoConvergence {
        routine: "the singular value decomposition",
        rows,
        cols,
    }
}

/// An orthonormal basis Q (m×min(m, n)) whose leading columns span those of `a`, by Householder QR.
///
/// Q is orthonormal whatever the rank of `a`.
pub(crate) fn orthonormal_basis<T: Scalar>(a: ArrayView2<'_, T>) -> Array2<T> {
    T::orthonormal_basis(a)
}

pub(crate) fn faer_orthonormal_basis<T: RealField + Copy>(a: ArrayView2<'_, T>) -> Array2<T> {
    let (m, n) = a.dim();
    let k = m.min(n);
    let mut basis = zeros::<T>((m, n));
    basis.assign(&a);
    let block = qr::recommended_block_size::<T>(m, n);
    let mut coeff = Mat::<T>::zeros(block, k);
    let scratch = qr::qr_in_place_scratch::<T>(m, n, block, Par::Seq, Spec::default());
    qr::qr_in_place(
        mat_mut(&mut basis.view_mut()),
        coeff.as_mut(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    );
    let mut q = zeros::<T>((m, k));
    q.diag_mut().fill(one::<T>());
    let scratch = householder::apply_block_householder_sequence_on_the_left_in_place_scratch::<T>(
        m, block, k,
    );
    householder::apply_block_householder_sequence_on_the_left_in_place_with_conj(
        mat_ref(&basis.slice(s![.., ..k])),
        coeff.as_ref(),
        Conj::No,
        mat_mut(&mut q.view_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
    );
    q
}

/// The Cholesky factor of a symmetric positive definite matrix.
#[derive(Debug, Clone)]
pub(crate) struct Cholesky<T> {
    lower: Array2<T>,
}

impl<T: Scalar> Cholesky<T> {
    /// L with A = L·Lᵀ, or `None` where A is not numerically positive definite.
    ///
    /// Only the lower triangle of `a` is read.
    pub(crate) fn new(a: ArrayView2<'_, T>) -> Option<Self> {
        T::cholesky(a).map(|lower| Self { lower })
    }

    /// X ← A⁻¹·X.
    pub(crate) fn solve_in_place(&self, x: ArrayViewMut2<'_, T>) {
        T::cholesky_solve(self.lower.view(), x);
    }

    /// X ← X·A⁻¹.
    pub(crate) fn solve_right_in_place(&self, x: ArrayViewMut2<'_, T>) {
        self.solve_in_place(x.reversed_axes());
    }
}

pub(crate) fn faer_cholesky<T: RealField + Copy>(a: ArrayView2<'_, T>) -> Option<Array2<T>> {
    let n = a.nrows();
    let mut lower = zeros((n, n));
    lower.assign(&a);
    let scratch = llt::factor::cholesky_in_place_scratch::<T>(n, Par::Seq, Spec::default());
    llt::factor::cholesky_in_place(
        mat_mut(&mut lower.view_mut()),
        Default::default(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .ok()?;
    Some(lower)
}

pub(crate) fn faer_cholesky_solve<T: RealField + Copy>(
    lower: ArrayView2<'_, T>,
    mut x: ArrayViewMut2<'_, T>,
) {
    let x = mat_mut(&mut x);
    llt::solve::solve_in_place(mat_ref(&lower), x, Par::Seq, MemStack::new(&mut []));
}

/// A zero matrix stored column by column.
fn zeros<T: RealField + Copy>(shape: (usize, usize)) -> Array2<T> {
    Array2::from_elem(shape.f(), zero())
}
