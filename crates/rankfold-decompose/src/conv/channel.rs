//! Channel SVD: a Dh×Dw convolution S → R, then a 1×1 convolution R → T.

use ndarray::{Array4, ArrayView4, s};

use super::{ConvOptions, Kernel, Share, filters, linear, pointwise, stack};
use crate::blas;
use crate::control::Control;
use crate::error::Result;
use crate::rank::Rank;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// Two convolutions in place of one.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelFactors<T> {
    /// Kernel of the first convolution, which takes over stride, padding and dilation:
    /// [R, S/g, Dh, Dw].
    pub first: Array4<T>,
    /// Kernel of the second, 1×1 convolution: [T, R/g, 1, 1].
    pub second: Array4<T>,
    /// The groups of both.
    pub groups: usize,
    /// The relative error, of the response where there is a covariance, of the weights otherwise.
    pub relative_error: f64,
}

impl<T: Scalar> ChannelFactors<T> {
    /// The kernel that the two convolutions have together: [T, S/g, Dh, Dw].
    pub fn reconstruct(&self) -> Array4<T> {
        let (rank, inputs, height, width) = self.first.dim();
        let (rank, outputs) = (rank / self.groups, self.second.dim().0 / self.groups);
        let parts: Vec<_> = (0..self.groups)
            .map(|group| {
                let first = self
                    .first
                    .slice(s![group * rank..(group + 1) * rank, .., .., ..]);
                let second =
                    self.second
                        .slice(s![group * outputs..(group + 1) * outputs, .., 0, 0]);
                let whole = blas::dot(second, filters(first).view(), Threads::Pool);
                whole
                    .into_shape_with_order((outputs, inputs, height, width))
                    .expect("invariant: filters have the kernel's length")
            })
            .collect();
        stack(&parts)
    }
}

/// The largest rank of the channel form: g·min(T/g, S/g·Dh·Dw), which reproduces the kernel.
pub fn channel_max_rank(shape: (usize, usize, usize, usize), groups: usize) -> usize {
    let (outputs, inputs, height, width) = shape;
    groups * (outputs / groups.max(1)).min(inputs * height * width)
}

/// The channel form of a kernel [T, S/g, Dh, Dw] at a rank that g divides.
///
/// It is the SVD of the T×S·Dh·Dw matrix of filters (Zhang et al. 2015 when data-aware); a depthwise
/// kernel is refused.
pub fn channel_svd<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    rank: Rank,
    options: &ConvOptions<'_>,
    control: Control<'_>,
) -> Result<ChannelFactors<T>> {
    let kernel = Kernel::new(kernel, options)?.refuse_depthwise("channel SVD")?;
    let (outputs, inputs, height, width) = kernel.group_dim();
    let rank = kernel.group_rank(rank, outputs.min(inputs * height * width), "channel SVD")?;
    let (mut first, mut second, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for (group, weights) in kernel.groups().into_iter().enumerate() {
        let (inner, outer, share) =
            linear::project(filters(weights).view(), group, rank, options, control)?;
        let inner = inner.as_standard_layout().into_owned();
        let inner = inner.into_shape_with_order((rank, inputs, height, width));
        first.push(inner.expect("invariant: a filter has S·Dh·Dw elements"));
        second.push(pointwise(outer.view()));
        shares.push(share);
    }
    Ok(ChannelFactors {
        first: stack(&first),
        second: stack(&second),
        groups: options.groups,
        relative_error: Share::sum(shares).relative(),
    })
}

/// The relative errors of [`channel_svd`] at every rank of `ranks`, from one spectrum.
///
/// A rank that the groups do not divide counts as the next lower one that they do; 0 leaves all.
pub fn channel_curve<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    ranks: &[usize],
    options: &ConvOptions<'_>,
) -> Result<Vec<f64>> {
    let kernel = Kernel::new(kernel, options)?;
    let ranks: Vec<usize> = ranks.iter().map(|rank| rank / options.groups).collect();
    let mut sums = vec![Share::default(); ranks.len()];
    for (group, weights) in kernel.groups().into_iter().enumerate() {
        let shares = linear::shares(
            filters(weights).view(),
            group,
            &ranks,
            options,
            Control::default(),
        )?;
        for (sum, share) in sums.iter_mut().zip(shares) {
            *sum = Share::sum([*sum, share]);
        }
    }
    Ok(sums.into_iter().map(Share::relative).collect())
}
