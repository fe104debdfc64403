//! A convolution kernel as a stack of spatial slices, and its products with factors.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayView4, Axis, Zip, s};

use crate::blas::{dot, gram};
use crate::scalar::Scalar;
use crate::threads::Threads;

/// A kernel W (T×S×K, K = Dh·Dw spatial taps) stored tap by tap: K slices of T×S, row-major.
///
/// The stored values are those of the kernel divided by [`scale`](Self::scale), its norm, so that
/// neither huge nor tiny kernels leave the range of the element type in a product.
#[derive(Debug, Clone)]
pub(crate) struct Slices<T> {
    values: Array3<T>,
    /// ‖W‖² of what is being approximated, in units of `scale`²: 1, or 0 for a zero kernel.
    ///
    /// A compressed core keeps the norm of the kernel it came from, so that errors are relative to that.
    pub(crate) norm_sq: f64,
    /// The norm of the kernel.
    pub(crate) scale: f64,
    /// Taps along the height and the width.
    pub(crate) taps: (usize, usize),
}

impl<T: Scalar> Slices<T> {
    /// The slices of a kernel in the order [out, in, height, width], any strides.
    pub(crate) fn new(kernel: ArrayView4<'_, T>) -> Self {
        let (outputs, inputs, height, width) = kernel.dim();
        let largest = kernel.iter().fold(0.0f64, |m, x| m.max(x.as_f64().abs()));
        let sum_sq: f64 = match largest {
            0.0 => 0.0,
            _ => kernel
                .axis_iter(Axis(0))
                .map(|filter| {
                    filter
                        .iter()
                        .map(|x| (x.as_f64() / largest).powi(2))
                        .sum::<f64>()
                })
                .sum(),
        };
        let scale = largest * sum_sq.sqrt();
        let mut values = Array3::zeros((height * width, outputs, inputs));
        for (k, mut slice) in values.outer_iter_mut().enumerate() {
            let tap = kernel.slice(s![.., .., k / width, k % width]);
            if scale > 0.0 {
                Zip::from(&mut slice)
                    .and(&tap)
                    .for_each(|o, &x| *o = T::from_f64(x.as_f64() / scale));
            }
        }
        let norm_sq = f64::from(u8::from(scale > 0.0));
        Self {
            values,
            norm_sq,
            scale,
            taps: (height, width),
        }
    }

    /// These slices projected on orthonormal bases: `left`ᵀ·W_k·`right` for every tap k.
    pub(crate) fn project(
        &self,
        left: ArrayView2<'_, T>,
        right: ArrayView2<'_, T>,
        threads: Threads,
    ) -> Self {
        let (taps, outputs, _) = self.values.dim();
        let rows = dot(self.flat(), right, threads);
        let rows = rows.into_shape_with_order((taps, outputs, right.ncols()));
        let rows: Array3<T> = rows.expect("invariant: a product has its rows and columns");
        let mut values = Array3::zeros((taps, left.ncols(), right.ncols()));
        let jobs: Vec<_> = values.outer_iter_mut().zip(rows.outer_iter()).collect();
        threads.for_each(jobs, |(mut core, rows)| {
            core.assign(&dot(left.t(), rows, Threads::Serial))
        });
        Self {
            values,
            norm_sq: self.norm_sq,
            scale: self.scale,
            taps: self.taps,
        }
    }

    /// The number of taps K, output channels T and input channels S.
    pub(crate) fn dim(&self) -> (usize, usize, usize) {
        self.values.dim()
    }

    pub(crate) fn values(&self) -> ArrayView3<'_, T> {
        self.values.view()
    }

    /// All slices below each other: K·T×S.
    pub(crate) fn flat(&self) -> ArrayView2<'_, T> {
        let (taps, outputs, inputs) = self.values.dim();
        let flat = self
            .values
            .view()
            .into_shape_with_order((taps * outputs, inputs));
        flat.expect("invariant: slices are contiguous")
    }

    /// Each slice as a row: K×T·S.
    pub(crate) fn rows(&self) -> ArrayView2<'_, T> {
        let (taps, outputs, inputs) = self.values.dim();
        let rows = self
            .values
            .view()
            .into_shape_with_order((taps, outputs * inputs));
        rows.expect("invariant: slices are contiguous")
    }

    /// Y_k = W_k·B for every tap, as K·T×R.
    pub(crate) fn times_inputs(&self, b: ArrayView2<'_, f64>, threads: Threads) -> Array2<T> {
        dot(self.flat(), b.mapv(T::from_f64).view(), threads)
    }

    /// Σ_k W_kᵀ·(A ∘ c_k), S×R: the product of the kernel with A ⊙ C, where c_k is row k of C.
    pub(crate) fn times_outputs(
        &self,
        a: ArrayView2<'_, f64>,
        c: ArrayView2<'_, f64>,
        threads: Threads,
    ) -> Array2<f64> {
        let (taps, outputs, _) = self.values.dim();
        let rank = a.ncols();
        let mut khatri_rao = Array3::<T>::zeros((taps, outputs, rank));
        let jobs = khatri_rao.outer_iter_mut().zip(c.outer_iter()).collect();
        threads.for_each(jobs, |(mut block, c)| {
            for (mut row, a) in block.outer_iter_mut().zip(a.outer_iter()) {
                Zip::from(&mut row)
                    .and(&a)
                    .and(&c)
                    .for_each(|o, &a, &c| *o = T::from_f64(a * c));
            }
        });
        let khatri_rao = khatri_rao.into_shape_with_order((taps * outputs, rank));
        let khatri_rao: Array2<T> = khatri_rao.expect("invariant: the blocks are contiguous");
        dot(self.flat().t(), khatri_rao.view(), threads).mapv(Scalar::as_f64)
    }

    /// The Gram matrices of the output and of the input channels, Σ W_k·W_kᵀ and Σ W_kᵀ·W_k.
    pub(crate) fn channel_grams(&self, threads: Threads) -> (Array2<T>, Array2<T>) {
        let slices = self.values.outer_iter().collect();
        let outputs = threads.map(slices, |w| gram(w.t(), Threads::Serial));
        let mut sum = Array2::zeros((self.values.dim().1, self.values.dim().1));
        for g in &outputs {
            sum += g;
        }
        (sum, gram(self.flat(), threads))
    }
}

/// Σ_k c_k ∘ Y_k, T×R: the product of the kernel with B ⊙ C, from Y_k = W_k·B.
pub(crate) fn contract_taps<T: Scalar>(
    y: ArrayView2<'_, T>,
    c: ArrayView2<'_, f64>,
    threads: Threads,
) -> Array2<f64> {
    let (taps, rank) = c.dim();
    let outputs = y.nrows() / taps;
    let y = y.into_shape_with_order((taps, outputs, rank));
    let y = y.expect("invariant: Y is contiguous with K·T rows");
    let mut m = Array2::zeros((outputs, rank));
    let jobs = m.axis_chunks_iter_mut(Axis(0), CHUNK).enumerate().collect();
    threads.for_each(jobs, |(i, mut m)| {
        for (j, mut m) in m.outer_iter_mut().enumerate() {
            for (k, c) in c.outer_iter().enumerate() {
                let y = y.slice(s![k, i * CHUNK + j, ..]);
                Zip::from(&mut m)
                    .and(&y)
                    .and(&c)
                    .for_each(|m, y, c| *m += y.as_f64() * c);
            }
        }
    });
    m
}

/// Rows p_k = Σ_t a_t ∘ Y_k[t, ·], K×R: the product of the kernel with A ⊙ B, from Y_k = W_k·B.
pub(crate) fn contract_outputs<T: Scalar>(
    y: ArrayView2<'_, T>,
    a: ArrayView2<'_, f64>,
    threads: Threads,
) -> Array2<f64> {
    let (outputs, rank) = a.dim();
    let mut p = Array2::zeros((y.nrows() / outputs, rank));
    let jobs = p
        .outer_iter_mut()
        .zip(y.axis_chunks_iter(Axis(0), outputs))
        .collect();
    threads.for_each(jobs, |(mut p, y)| {
        for (y, a) in y.outer_iter().zip(a.outer_iter()) {
            Zip::from(&mut p)
                .and(&y)
                .and(&a)
                .for_each(|p, y, a| *p += y.as_f64() * a);
        }
    });
    p
}

/// Rows in one piece of work.
const CHUNK: usize = 64;
