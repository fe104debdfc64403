//! Matrix products on strided views, cut into pieces that do not depend on the number of threads.
//!
//! The kernels are faer's: Rust and inline assembly, chosen at run time from what the processor
//! has. No Fortran symbol (`sgemm_`, `ssyevd_`, …) is imported or exported by this crate, so in a
//! binary that also links libtorch neither library can answer for the other.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};
use faer_traits::RealField;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use crate::scalar::Scalar;
use crate::threads::Threads;

/// Products below this many multiplications stay in one piece.
const SMALL: usize = 1 << 20;
/// The most pieces that one product is cut into.
const PIECES: usize = 16;
/// The least rows, columns or inner elements of a piece.
const GRAIN: usize = 64;

pub(crate) fn mat_ref<'a, T>(a: &ArrayView2<'a, T>) -> MatRef<'a, T> {
    let (rows, cols) = a.dim();
    let strides = a.strides();
    // SAFETY: pointer, extents and strides all describe the borrowed view, which lives for 'a.
    unsafe { MatRef::from_raw_parts(a.as_ptr(), rows, cols, strides[0], strides[1]) }
}

pub(crate) fn mat_mut<'a, T>(a: &'a mut ArrayViewMut2<'_, T>) -> MatMut<'a, T> {
    let (rows, cols) = a.dim();
    let (row_stride, col_stride) = (a.strides()[0], a.strides()[1]);
    // SAFETY: as in `mat_ref`; the view is borrowed mutably for as long as the result lives.
    unsafe { MatMut::from_raw_parts_mut(a.as_mut_ptr(), rows, cols, row_stride, col_stride) }
}

/// The length of the pieces that an axis of `len` is cut into.
fn piece(len: usize) -> usize {
    len.div_ceil(PIECES).max(GRAIN).next_multiple_of(16)
}

/// C ← α·A·B, or C ← C + α·A·B where `accumulate`.
///
/// Every view may have any strides. The bits are the same for every [`Threads`].
pub(crate) fn gemm<T: Scalar>(
    alpha: T,
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    accumulate: bool,
    mut c: ArrayViewMut2<'_, T>,
    threads: Threads,
) {
    let (m, k) = a.dim();
    let n = b.ncols();
    assert!(
        b.nrows() == k && c.dim() == (m, n),
        "invariant: inner and outer dimensions agree"
    );
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            c.fill(T::zero());
        }
        return;
    }
    if m.saturating_mul(n).saturating_mul(k) <= SMALL {
        return T::product(alpha, a, b, accumulate, c);
    }
    let widest = m.max(n);
    if k >= 8 * widest && widest <= 8 * GRAIN {
        return split_inner(alpha, a, b, accumulate, c, threads);
    }
    if m >= n {
        let step = piece(m);
        let tiles = c.axis_chunks_iter_mut(Axis(0), step);
        let tiles = tiles.zip(a.axis_chunks_iter(Axis(0), step)).collect();
        threads.for_each(tiles, |(c, a)| T::product(alpha, a, b, accumulate, c));
    } else {
        let step = piece(n);
        let tiles = c.axis_chunks_iter_mut(Axis(1), step);
        let tiles = tiles.zip(b.axis_chunks_iter(Axis(1), step)).collect();
        threads.for_each(tiles, |(c, b)| T::product(alpha, a, b, accumulate, c));
    }
}

/// One piece of a product, on the calling thread.
pub(crate) fn faer_product<T: RealField>(
    alpha: T,
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    accumulate: bool,
    mut c: ArrayViewMut2<'_, T>,
) {
    let accum = if accumulate {
        Accum::Add
    } else {
        Accum::Replace
    };
    matmul(
        mat_mut(&mut c),
        accum,
        mat_ref(&a),
        mat_ref(&b),
        alpha,
        Par::Seq,
    );
}

/// The lower triangle of a square product, on the calling thread.
pub(crate) fn faer_lower_product<T: RealField>(
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    mut c: ArrayViewMut2<'_, T>,
) {
    triangular::matmul(
        mat_mut(&mut c),
        BlockStructure::TriangularLower,
        Accum::Replace,
        mat_ref(&a),
        BlockStructure::Rectangular,
        mat_ref(&b),
        BlockStructure::Rectangular,
        faer_traits::math_utils::one(),
        Par::Seq,
    );
}

/// A product with a long inner dimension: partial sums over pieces of it, added in order.
fn split_inner<T: Scalar>(
    alpha: T,
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    accumulate: bool,
    mut c: ArrayViewMut2<'_, T>,
    threads: Threads,
) {
    let step = piece(a.ncols());
    let pieces: Vec<_> = a
        .axis_chunks_iter(Axis(1), step)
        .zip(b.axis_chunks_iter(Axis(0), step))
        .collect();
    let partial = threads.map(pieces, |(a, b)| {
        let mut part = Array2::zeros((a.nrows(), b.ncols()));
        T::product(alpha, a, b, false, part.view_mut());
        part
    });
    if !accumulate {
        c.fill(T::zero());
    }
    for part in &partial {
        c += part;
    }
}

/// A·B. The bits are the same for every [`Threads`].
pub fn dot<T: Scalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, threads: Threads) -> Array2<T> {
    let mut c = Array2::zeros((a.nrows(), b.ncols()));
    gemm(T::one(), a, b, false, c.view_mut(), threads);
    c
}

/// AᵀA, both triangles; half the work of a general product.
pub(crate) fn gram<T: Scalar>(a: ArrayView2<'_, T>, threads: Threads) -> Array2<T> {
    let (k, n) = a.dim();
    let mut c = Array2::zeros((n, n));
    if k >= 8 * n && n <= 8 * GRAIN {
        let partial = threads.map(a.axis_chunks_iter(Axis(0), piece(k)).collect(), |a| {
            let mut part = Array2::zeros((n, n));
            lower_gram(a, 0, part.view_mut());
            part
        });
        for part in &partial {
            c += part;
        }
    } else {
        let step = piece(n);
        let tiles = c.axis_chunks_iter_mut(Axis(0), step).enumerate().collect();
        threads.for_each(tiles, |(i, c)| lower_gram(a, i * step, c));
    }
    mirror_lower(&mut c);
    c
}

/// AᵀA in f64 whatever the element type, without a whole copy of A.
pub(crate) fn gram_f64<T: Scalar>(a: ArrayView2<'_, T>, threads: Threads) -> Array2<f64> {
    let n = a.ncols();
    let mut c = Array2::zeros((n, n));
    for rows in a.axis_chunks_iter(Axis(0), (4 * n).max(2048)) {
        let rows = rows.mapv(T::as_f64);
        c += &gram(rows.view(), threads);
    }
    c
}

/// AᵀA in the element type, summed over pieces of some thousand rows, which keeps rounding down.
pub(crate) fn gram_in_pieces<T: Scalar>(a: ArrayView2<'_, T>, threads: Threads) -> Array2<T> {
    let mut c = Array2::zeros((a.ncols(), a.ncols()));
    for rows in a.axis_chunks_iter(Axis(0), 2048) {
        c += &gram(rows, threads);
    }
    c
}

/// Rows `from..` of the lower triangle of AᵀA, as many as `c` has.
fn lower_gram<T: Scalar>(a: ArrayView2<'_, T>, from: usize, mut c: ArrayViewMut2<'_, T>) {
    let to = from + c.nrows();
    let rows = a.slice(s![.., from..to]);
    if from > 0 {
        let left = c.slice_mut(s![.., ..from]);
        T::product(T::one(), rows.t(), a.slice(s![.., ..from]), false, left);
    }
    T::lower_product(rows.t(), rows, c.slice_mut(s![.., from..to]));
}

/// Copies the lower triangle of a square matrix onto the upper one.
pub(crate) fn mirror_lower<T: Copy>(c: &mut Array2<T>) {
    const TILE: usize = 32;
    let n = c.nrows();
    for i0 in (0..n).step_by(TILE) {
        for j0 in (0..=i0).step_by(TILE) {
            for i in i0..(i0 + TILE).min(n) {
                for j in j0..(j0 + TILE).min(i) {
                    c[[j, i]] = c[[i, j]];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gaussian, naive_product};

    fn close<T: Scalar>(a: &Array2<T>, b: &Array2<f64>, k: usize) {
        let tolerance = 8.0 * T::EPS * (k as f64).sqrt();
        for (&x, &y) in a.iter().zip(b) {
            assert!(
                (x.as_f64() - y).abs() <= tolerance * (k as f64).sqrt().max(1.0),
                "{x} {y}"
            );
        }
    }

    fn products<T: Scalar>() {
        for (m, n, k) in [
            (1, 1, 1),
            (3, 5, 0),
            (7, 1, 9),
            (200, 130, 90),
            (33, 20, 4000),
            (20, 900, 150),
        ] {
            let a = gaussian::<T>((m, k), 1);
            let b = gaussian::<T>((k, n), 2);
            let expected = naive_product(&a, &b);
            let columns = a.t().as_standard_layout().into_owned();
            for a in [a.view(), columns.t()] {
                close(&dot(a, b.view(), Threads::Pool), &expected, k);
                let mut c = Array2::ones((m, n));
                gemm(T::one(), a, b.view(), true, c.view_mut(), Threads::Pool);
                close(&c, &(&expected + 1.0), k);
            }
            close(
                &gram(a.view(), Threads::Pool),
                &naive_product(&a.t().to_owned(), &a),
                m,
            );
        }
    }

    #[test]
    fn products_match_the_definition() {
        products::<f32>();
        products::<f64>();
    }

    #[test]
    fn bits_do_not_depend_on_the_pool() {
        for (m, n, k) in [(700, 300, 500), (40, 30, 9000), (300, 2000, 64)] {
            let a = gaussian::<f32>((m, k), 3);
            let b = gaussian::<f32>((k, n), 4);
            let serial = (
                dot(a.view(), b.view(), Threads::Serial),
                gram(a.view(), Threads::Serial),
            );
            for threads in [1, 2, 3, 5] {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let pooled = pool.install(|| {
                    (
                        dot(a.view(), b.view(), Threads::Pool),
                        gram(a.view(), Threads::Pool),
                    )
                });
                assert!(serial == pooled, "{m}×{n}×{k} on {threads} threads");
            }
        }
    }
}
