//! C ≈ C_channel ⊗ C_height ⊗ C_width, for forms that treat those axes one by one.

use ndarray::{Array2, Array4, ArrayView2, ArrayView4};

use super::{InputCovariance, SquareRoot};
use crate::blas;
use crate::error::Result;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// The Kronecker approximation of one group's moments, by partial traces, as a change of
/// coordinates in which the plain error is the weighted one.
///
/// With W′ = W ×₂ C_channel^½ ×₃ C_spatial^½ it is ‖W′ − Ŵ′‖² = tr(Δ·(C_channel ⊗ C_spatial)·Δᵀ): run
/// a plain algorithm on [`whiten`](Self::whiten), then map its factors back.
#[derive(Debug, Clone)]
pub(crate) struct KroneckerMetric {
    channel: SquareRoot,
    taps: Taps,
}

/// The spatial part: joint, or height and width apart.
#[derive(Debug, Clone)]
enum Taps {
    Joint(SquareRoot),
    Apart {
        height: SquareRoot,
        width: SquareRoot,
    },
}

impl KroneckerMetric {
    /// C_channel ⊗ C_spatial of one group, for a kernel of `taps` = (height, width).
    pub(crate) fn joint(
        moments: &InputCovariance,
        group: usize,
        taps: (usize, usize),
    ) -> Result<Self> {
        let traces = Traces::new(moments, group, taps)?;
        Ok(Self {
            channel: traces.root(&traces.channel, moments)?,
            taps: Taps::Joint(traces.root(&traces.spatial, moments)?),
        })
    }

    /// C_channel ⊗ C_height ⊗ C_width of one group, for a kernel of `taps` = (height, width).
    pub(crate) fn apart(
        moments: &InputCovariance,
        group: usize,
        taps: (usize, usize),
    ) -> Result<Self> {
        let traces = Traces::new(moments, group, taps)?;
        Ok(Self {
            channel: traces.root(&traces.channel, moments)?,
            taps: Taps::Apart {
                height: traces.root(&traces.height, moments)?,
                width: traces.root(&traces.width, moments)?,
            },
        })
    }

    /// A kernel [T, S, Dh, Dw] in the coordinates in which its plain error is the weighted one.
    pub(crate) fn whiten<T: Scalar>(
        &self,
        kernel: ArrayView4<'_, T>,
        threads: Threads,
    ) -> Array4<T> {
        let kernel = along(kernel, 1, &self.channel.root, threads);
        match &self.taps {
            Taps::Apart { height, width } => {
                let kernel = along(kernel.view(), 2, &height.root, threads);
                along(kernel.view(), 3, &width.root, threads)
            }
            Taps::Joint(spatial) => along_taps(kernel.view(), &spatial.root, threads),
        }
    }

    /// Kernels [R, S, Dh, 1] of a vertical stage mapped back; the metric must be [`apart`](Self::apart).
    pub(crate) fn restore_vertical<T: Scalar>(
        &self,
        kernels: ArrayView4<'_, T>,
        threads: Threads,
    ) -> Array4<T> {
        let kernels = along(kernels, 1, &self.channel.inverse, threads);
        match &self.taps {
            Taps::Joint(_) => kernels,
            Taps::Apart { height, .. } => along(kernels.view(), 2, &height.inverse, threads),
        }
    }

    /// Kernels [R, T, 1, Dw] of a horizontal stage mapped back; the metric must be
    /// [`apart`](Self::apart).
    pub(crate) fn restore_horizontal<T: Scalar>(
        &self,
        kernels: ArrayView4<'_, T>,
        threads: Threads,
    ) -> Array4<T> {
        match &self.taps {
            Taps::Joint(_) => kernels.to_owned(),
            Taps::Apart { width, .. } => along(kernels, 3, &width.inverse, threads),
        }
    }

    /// Kernels [R, R′, Dh, Dw] of a core mapped back along their taps only.
    pub(crate) fn restore_core<T: Scalar>(
        &self,
        kernels: ArrayView4<'_, T>,
        threads: Threads,
    ) -> Array4<T> {
        match &self.taps {
            Taps::Joint(spatial) => along_taps(kernels, &spatial.inverse, threads),
            Taps::Apart { height, width } => {
                let kernels = along(kernels, 2, &height.inverse, threads);
                along(kernels.view(), 3, &width.inverse, threads)
            }
        }
    }

    /// Input-channel factors (S×R) mapped back to the kernel's own coordinates.
    pub(crate) fn restore_channels(&self, factors: ArrayView2<'_, f64>) -> Array2<f64> {
        self.channel.inverse.dot(&factors)
    }

    /// Spatial factors (Dh·Dw×R) of a joint metric mapped back; those of heights and widths apart
    /// go through both.
    pub(crate) fn restore_taps(&self, factors: ArrayView2<'_, f64>) -> Array2<f64> {
        match &self.taps {
            Taps::Joint(spatial) => spatial.inverse.dot(&factors),
            Taps::Apart { height, width } => kron(&height.inverse, &width.inverse).dot(&factors),
        }
    }

    /// Height factors (Dh×R) mapped back; `None` for a joint metric.
    pub(crate) fn restore_height(&self, factors: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
        match &self.taps {
            Taps::Joint(_) => None,
            Taps::Apart { height, .. } => Some(height.inverse.dot(&factors)),
        }
    }

    /// Width factors (Dw×R) mapped back; `None` for a joint metric.
    pub(crate) fn restore_width(&self, factors: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
        match &self.taps {
            Taps::Joint(_) => None,
            Taps::Apart { width, .. } => Some(width.inverse.dot(&factors)),
        }
    }
}

/// Partial traces of moments over [channel, row, column] × [channel, row, column].
struct Traces {
    channel: Array2<f64>,
    spatial: Array2<f64>,
    height: Array2<f64>,
    width: Array2<f64>,
}

impl Traces {
    fn new(
        moments: &InputCovariance,
        group: usize,
        (height, width): (usize, usize),
    ) -> Result<Self> {
        let patch = moments.patch_len();
        let taps = height * width;
        let channels = patch / taps.max(1);
        moments.expect(moments.groups(), channels * taps)?;
        let matrix = moments.moments(group);
        let block = |s: usize, k: usize| s * taps + k;
        let channel = Array2::from_shape_fn((channels, channels), |(s, t)| {
            (0..taps).map(|k| matrix[[block(s, k), block(t, k)]]).sum()
        });
        let spatial = Array2::from_shape_fn((taps, taps), |(j, k)| {
            (0..channels)
                .map(|s| matrix[[block(s, j), block(s, k)]])
                .sum()
        });
        let rows = Array2::from_shape_fn((height, height), |(i, j)| {
            (0..width)
                .map(|k| spatial[[i * width + k, j * width + k]])
                .sum()
        });
        let columns = Array2::from_shape_fn((width, width), |(i, j)| {
            (0..height)
                .map(|k| spatial[[k * width + i, k * width + j]])
                .sum()
        });
        Ok(Self {
            channel,
            spatial,
            height: rows,
            width: columns,
        })
    }

    /// The root of a partial trace scaled to a mean eigenvalue of one, so that the roots together
    /// carry the direction of C and not its size.
    fn root(&self, trace: &Array2<f64>, moments: &InputCovariance) -> Result<SquareRoot> {
        let size = trace.nrows();
        let mean = trace.diag().sum() / size as f64;
        if mean <= 0.0 {
            return Ok(SquareRoot {
                root: Array2::eye(size),
                inverse: Array2::eye(size),
            });
        }
        let unit = trace / mean;
        SquareRoot::new(unit.view(), moments.ridge_for(size as f64, size))
    }
}

/// X with its axis `axis` multiplied by a symmetric matrix.
fn along<T: Scalar>(
    x: ArrayView4<'_, T>,
    axis: usize,
    by: &Array2<f64>,
    threads: Threads,
) -> Array4<T> {
    let by = by.mapv(T::from_f64);
    let mut order = [0, 1, 2, 3];
    order[axis..].rotate_left(1);
    let moved = x.permuted_axes(order);
    let shape = moved.raw_dim();
    let rows = moved.len() / by.nrows();
    let flat = moved.as_standard_layout();
    let flat = flat.view().into_shape_with_order((rows, by.nrows()));
    let flat = flat.expect("invariant: a contiguous array has any shape of its length");
    let product = blas::dot(flat, by.view(), threads);
    let product = product.into_shape_with_order(shape);
    let product = product.expect("invariant: a symmetric factor keeps the shape");
    let mut back = [0; 4];
    for (place, &axis) in order.iter().enumerate() {
        back[axis] = place;
    }
    product.permuted_axes(back)
}

/// X with its two spatial axes together multiplied by a symmetric matrix.
fn along_taps<T: Scalar>(x: ArrayView4<'_, T>, by: &Array2<f64>, threads: Threads) -> Array4<T> {
    let shape = x.raw_dim();
    let by = by.mapv(T::from_f64);
    let flat = x.as_standard_layout();
    let flat = flat
        .view()
        .into_shape_with_order((x.len() / by.nrows(), by.nrows()));
    let flat = flat.expect("invariant: a contiguous array has any shape of its length");
    let product = blas::dot(flat, by.view(), threads);
    product
        .into_shape_with_order(shape)
        .expect("invariant: a symmetric factor keeps the shape")
}

fn kron(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    ndarray::linalg::kron(a, b)
}
