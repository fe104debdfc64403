//! Spatial SVD: a Dh×1 convolution S → R, then a 1×Dw convolution R → T.

use ndarray::{Array2, Array4, ArrayView2, ArrayView3, ArrayView4, s};

use super::{ConvOptions, Kernel, Share, linear, stack};
use crate::blas;
use crate::control::Control;
use crate::error::Result;
use crate::rank::{Rank, Truncation};
use crate::scalar::Scalar;
use crate::scale;
use crate::svd::{Svd, svd};
use crate::threads::Threads;
use crate::weighted::KroneckerMetric;

/// Two one-dimensional convolutions in place of one.
#[derive(Debug, Clone, PartialEq)]
pub struct SpatialFactors<T> {
    /// Kernel of the first convolution, down the rows, which takes over the vertical stride, padding
    /// and dilation: [R, S/g, Dh, 1].
    pub vertical: Array4<T>,
    /// Kernel of the second, along the columns, which takes over the horizontal ones: [T, R/g, 1, Dw].
    pub horizontal: Array4<T>,
    /// The groups of both.
    pub groups: usize,
    /// The relative error, of the response where there is a covariance, of the weights otherwise.
    pub relative_error: f64,
}

impl<T: Scalar> SpatialFactors<T> {
    /// The kernel that the two convolutions have together: [T, S/g, Dh, Dw].
    pub fn reconstruct(&self) -> Array4<T> {
        let (rank, outputs) = (
            self.vertical.dim().0 / self.groups,
            self.horizontal.dim().0 / self.groups,
        );
        let parts: Vec<_> = (0..self.groups)
            .map(|group| {
                let vertical: ArrayView3<'_, T> =
                    self.vertical
                        .slice(s![group * rank..(group + 1) * rank, .., .., 0]);
                let horizontal: ArrayView3<'_, T> =
                    self.horizontal
                        .slice(s![group * outputs..(group + 1) * outputs, .., 0, ..]);
                let (_, inputs, height) = vertical.dim();
                let width = horizontal.dim().2;
                let left = vertical
                    .to_owned()
                    .into_shape_with_order((rank, inputs * height));
                let left: Array2<T> = left.expect("invariant: an owned slice is contiguous");
                let right = horizontal
                    .permuted_axes([1, 0, 2])
                    .as_standard_layout()
                    .into_owned();
                let right = right.into_shape_with_order((rank, outputs * width));
                let right: Array2<T> = right.expect("invariant: an owned slice is contiguous");
                let whole = blas::dot(left.t(), right.view(), Threads::Serial);
                fold(&whole, (outputs, inputs, height, width))
            })
            .collect();
        stack(&parts)
    }
}

/// The largest rank of the spatial form: g·min(S/g·Dh, T/g·Dw), which reproduces the kernel.
pub fn spatial_max_rank(shape: (usize, usize, usize, usize), groups: usize) -> usize {
    let (outputs, inputs, height, width) = shape;
    groups * (inputs * height).min(outputs / groups.max(1) * width)
}

/// The spatial form of a kernel [T, S/g, Dh, Dw] at a rank that g divides (Jaderberg et al. 2014, in
/// closed form).
///
/// It is the SVD of M[(s, i), (t, j)] = W[t, s, i, j]. Data-aware, the SVD is that of
/// (C_channel ⊗ C_height)^½·M·(I ⊗ C_width)^½.
pub fn spatial_svd<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    rank: Rank,
    options: &ConvOptions<'_>,
    control: Control<'_>,
) -> Result<SpatialFactors<T>> {
    let kernel = Kernel::new(kernel, options)?;
    let (outputs, inputs, height, width) = kernel.group_dim();
    let rank = kernel.group_rank(rank, (inputs * height).min(outputs * width), "spatial SVD")?;
    let mut groups = Vec::new();
    for group in 0..options.groups {
        groups.push(Group::new(&kernel, group, rank, control)?);
    }
    let whole = Share::sum(groups.iter().map(|group| group.share)).relative();
    let mut factors = assemble(&kernel, &groups, rank);
    factors.relative_error = match options.covariance {
        Some(_) => kernel.measure(&factors.reconstruct())?,
        None => whole,
    };
    Ok(factors)
}

/// The relative errors of [`spatial_svd`] at every rank of `ranks`, from one decomposition.
///
/// A rank that the groups do not divide counts as the next lower one that they do; 0 leaves all.
pub fn spatial_curve<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    ranks: &[usize],
    options: &ConvOptions<'_>,
    control: Control<'_>,
) -> Result<Vec<f64>> {
    let kernel = Kernel::new(kernel, options)?;
    let (outputs, inputs, height, width) = kernel.group_dim();
    let most = (inputs * height).min(outputs * width);
    let ranks: Vec<usize> = ranks
        .iter()
        .map(|rank| (rank / options.groups).min(most))
        .collect();
    let widest = ranks.iter().copied().max().unwrap_or(0);
    if options.covariance.is_none() {
        let mut sums = vec![Share::default(); ranks.len()];
        for weights in kernel.groups() {
            let matrix = unfold(weights);
            let spectrum = linear::leading_spectrum(matrix.view(), widest, &options.svd, control)?;
            let whole = spectrum.norm();
            for (sum, &rank) in sums.iter_mut().zip(&ranks) {
                let missed = spectrum.relative_error(rank) * whole;
                *sum = Share::sum([*sum, Share::new(missed, whole)]);
            }
        }
        return Ok(sums.into_iter().map(Share::relative).collect());
    }
    let mut groups = Vec::new();
    if widest > 0 {
        for group in 0..options.groups {
            groups.push(Group::new(&kernel, group, widest, control)?);
        }
    }
    let error = |&rank: &usize| {
        control.check()?;
        match rank {
            0 => kernel.measure(&Array4::zeros(kernel.weights.raw_dim())),
            rank => kernel.measure(&assemble(&kernel, &groups, rank).reconstruct()),
        }
    };
    ranks.iter().map(error).collect()
}

/// The factors of one group with the singular values split evenly: components as columns of `left`
/// ((s, i)×R) and rows of `right` (R×(t, j)).
struct Group<T> {
    left: Array2<T>,
    right: Array2<T>,
    share: Share,
}

impl<T: Scalar> Group<T> {
    fn new(
        kernel: &Kernel<'_, T>,
        group: usize,
        rank: usize,
        control: Control<'_>,
    ) -> Result<Self> {
        let (outputs, inputs, height, width) = kernel.group_dim();
        let options = kernel.options;
        let weights = kernel.groups()[group];
        let truncation = Truncation::rank(rank)?;
        let run = |a: ArrayView2<'_, T>| svd(a, truncation, &options.svd, control);
        let Some(covariance) = options.covariance else {
            let matrix = unfold(weights);
            let result: Svd<T> = run(matrix.view())?;
            let whole = scale::norm(matrix.view());
            let missed = result.relative_error * whole;
            let (left, right) = result.balanced();
            return Ok(Self {
                left,
                right,
                share: Share::new(missed, whole),
            });
        };
        let metric = KroneckerMetric::apart(covariance, group, (height, width))?;
        let whitened = metric.whiten(weights, kernel.threads());
        let (left, right) = run(unfold(whitened.view()).view())?.balanced();
        let left = left.t().as_standard_layout().into_owned();
        let left = left.into_shape_with_order((rank, inputs, height, 1));
        let left = left.expect("invariant: a component has S·Dh elements");
        let left = metric.restore_vertical(left.view(), kernel.threads());
        let left = left
            .as_standard_layout()
            .into_owned()
            .into_shape_with_order((rank, inputs * height));
        let right = right.as_standard_layout().into_owned();
        let right = right.into_shape_with_order((rank, outputs, 1, width));
        let right = right.expect("invariant: a component has T·Dw elements");
        let right = metric.restore_horizontal(right.view(), kernel.threads());
        let right = right
            .as_standard_layout()
            .into_owned()
            .into_shape_with_order((rank, outputs * width));
        Ok(Self {
            left: left
                .expect("invariant: a component has S·Dh elements")
                .reversed_axes(),
            right: right.expect("invariant: a component has T·Dw elements"),
            share: Share::default(),
        })
    }
}

/// The convolutions of the leading `rank` components of every group, their error yet unknown.
fn assemble<T: Scalar>(
    kernel: &Kernel<'_, T>,
    groups: &[Group<T>],
    rank: usize,
) -> SpatialFactors<T> {
    let (outputs, inputs, height, width) = kernel.group_dim();
    let part = |matrix: ArrayView2<'_, T>, shape| {
        let values = matrix
            .as_standard_layout()
            .into_owned()
            .into_shape_with_order(shape);
        values.expect("invariant: components have the factor's length")
    };
    let vertical: Vec<Array4<T>> = groups
        .iter()
        .map(|group| {
            part(
                group.left.slice(s![.., ..rank]).t(),
                (rank, inputs, height, 1),
            )
        })
        .collect();
    let horizontal: Vec<Array4<T>> = groups
        .iter()
        .map(|group| {
            let right = part(group.right.slice(s![..rank, ..]), (rank, outputs, 1, width));
            right
                .permuted_axes([1, 0, 2, 3])
                .as_standard_layout()
                .into_owned()
        })
        .collect();
    SpatialFactors {
        vertical: stack(&vertical),
        horizontal: stack(&horizontal),
        groups: kernel.options.groups,
        relative_error: 0.0,
    }
}

/// M[(s, i), (t, j)] = W[t, s, i, j].
fn unfold<T: Scalar>(kernel: ArrayView4<'_, T>) -> Array2<T> {
    let (outputs, inputs, height, width) = kernel.dim();
    let order = kernel
        .permuted_axes([1, 2, 0, 3])
        .as_standard_layout()
        .into_owned();
    let matrix = order.into_shape_with_order((inputs * height, outputs * width));
    matrix.expect("invariant: a contiguous array has any shape of its length")
}

/// The inverse of [`unfold`].
fn fold<T: Scalar>(
    matrix: &Array2<T>,
    (outputs, inputs, height, width): (usize, usize, usize, usize),
) -> Array4<T> {
    let values = matrix.as_standard_layout().into_owned();
    let values = values.into_shape_with_order((inputs, height, outputs, width));
    let values = values.expect("invariant: a contiguous array has any shape of its length");
    values
        .permuted_axes([2, 0, 1, 3])
        .as_standard_layout()
        .into_owned()
}
