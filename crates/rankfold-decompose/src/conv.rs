//! Low-rank forms of convolutions, with factors in convolution layout.
//!
//! A kernel is [T, S/g, Dh, Dw] for T output channels, S input channels and g groups, the layout of
//! PyTorch. Every form works group by group at rank R/g, and its parts are grouped convolutions with
//! the same g. With an [`InputCovariance`] the forms are data-aware.

mod channel;
mod linear;
mod spatial;
mod tucker;

use ndarray::{Array4, ArrayView2, ArrayView4, Axis, CowArray, Ix2, concatenate};

pub use channel::{ChannelFactors, channel_curve, channel_max_rank, channel_svd};
pub use linear::{LinearFactors, linear_curve, linear_svd};
pub use spatial::{SpatialFactors, spatial_curve, spatial_max_rank, spatial_svd};
pub use tucker::{Tucker2Factors, Tucker2Rank, tucker2, tucker2_curve, tucker2_max_rank};

use crate::check;
use crate::error::{DecomposeError, Result};
use crate::rank::Rank;
use crate::scalar::Scalar;
use crate::scale;
use crate::svd::SvdOptions;
use crate::threads::Threads;
use crate::weighted::InputCovariance;

/// How the form of a layer is computed.
#[derive(Debug, Clone)]
pub struct ConvOptions<'a> {
    /// Groups of the convolution.
    pub groups: usize,
    /// Second moments of the layer's inputs, for a data-aware form; plain without.
    pub covariance: Option<&'a InputCovariance>,
    /// How the SVDs are computed, with the seed and the cores to use.
    pub svd: SvdOptions,
    /// The most alternating sweeps of an iterative form.
    pub max_sweeps: usize,
}

impl Default for ConvOptions<'_> {
    fn default() -> Self {
        Self {
            groups: 1,
            covariance: None,
            svd: SvdOptions::default(),
            max_sweeps: 20,
        }
    }
}

/// A convolution kernel whose options fit it, split into groups.
struct Kernel<'a, T> {
    weights: ArrayView4<'a, T>,
    options: &'a ConvOptions<'a>,
}

impl<'a, T: Scalar> Kernel<'a, T> {
    /// Fails for an empty or non-finite kernel, groups that do not divide it, or a covariance that
    /// does not fit it.
    fn new(weights: ArrayView4<'a, T>, options: &'a ConvOptions<'a>) -> Result<Self> {
        check::finite("kernel", &weights)?;
        let (outputs, inputs, height, width) = weights.dim();
        let groups = options.groups;
        if groups == 0 || outputs % groups != 0 {
            return Err(DecomposeError::GroupsNotDivisible {
                groups,
                channels: outputs,
            });
        }
        if let Some(covariance) = options.covariance {
            covariance.expect(groups, inputs * height * width)?;
        }
        Ok(Self { weights, options })
    }

    /// Fails for a depthwise kernel: one input channel a group.
    fn refuse_depthwise(self, form: &'static str) -> Result<Self> {
        let (_, inputs, height, width) = self.weights.dim();
        let groups = self.options.groups;
        if inputs == 1 && groups > 1 {
            return Err(DecomposeError::Depthwise {
                form,
                groups,
                height,
                width,
            });
        }
        Ok(self)
    }

    fn threads(&self) -> Threads {
        self.options.svd.threads
    }

    /// Output channels, input channels, height and width of one group.
    fn group_dim(&self) -> (usize, usize, usize, usize) {
        let (outputs, inputs, height, width) = self.weights.dim();
        (outputs / self.options.groups, inputs, height, width)
    }

    /// The kernel of every group, [T/g, S/g, Dh, Dw].
    fn groups(&self) -> Vec<ArrayView4<'_, T>> {
        self.weights
            .axis_chunks_iter(Axis(0), self.group_dim().0)
            .collect()
    }

    /// The rank of one group for a rank of the whole, which the groups must divide.
    fn group_rank(&self, rank: Rank, max: usize, form: &'static str) -> Result<usize> {
        let groups = self.options.groups;
        let rank = rank.at_most(max * groups, form)?;
        if rank % groups == 0 {
            Ok(rank / groups)
        } else {
            Err(DecomposeError::RankNotDivisible { rank, groups })
        }
    }

    /// The relative error of an approximation: of the response where there is a covariance, of the
    /// weights otherwise.
    fn measure(&self, approximation: &Array4<T>) -> Result<f64> {
        match self.options.covariance {
            Some(covariance) => {
                covariance.response_error(self.weights, approximation.view(), self.threads())
            }
            None => {
                let missed = scale::norm((&self.weights - approximation).view());
                Ok(Share::new(missed, scale::norm(self.weights)).relative())
            }
        }
    }
}

/// What an approximation of a group leaves out and what the group has, as norms.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    missed: f64,
    whole: f64,
}

impl Share {
    fn new(missed: f64, whole: f64) -> Self {
        Self { missed, whole }
    }

    fn sum(shares: impl IntoIterator<Item = Self>) -> Self {
        shares.into_iter().fold(Self::default(), |sum, share| Self {
            missed: sum.missed.hypot(share.missed),
            whole: sum.whole.hypot(share.whole),
        })
    }

    fn relative(self) -> f64 {
        if self.whole > 0.0 {
            self.missed / self.whole
        } else {
            0.0
        }
    }
}

/// A [T, S, Dh, Dw] kernel as the T×S·Dh·Dw matrix of its filters, row-major; a copy only where the
/// kernel is not contiguous.
fn filters<'a, T: Scalar>(kernel: ArrayView4<'a, T>) -> CowArray<'a, T, Ix2> {
    let outputs = kernel.dim().0;
    let shape = (outputs, kernel.len() / outputs);
    if kernel.is_standard_layout() {
        let rows = kernel.into_shape_with_order(shape);
        return rows.expect("invariant: a filter is a row").into();
    }
    let rows = kernel
        .as_standard_layout()
        .into_owned()
        .into_shape_with_order(shape);
    rows.expect("invariant: a filter is a row").into()
}

/// The parts of every group, one below the other.
fn stack<T: Scalar>(parts: &[Array4<T>]) -> Array4<T> {
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concatenate(Axis(0), &views).expect("invariant: groups have parts of the same shape")
}

/// A T×R matrix as a [T, R, 1, 1] kernel.
fn pointwise<T: Scalar>(matrix: ArrayView2<'_, T>) -> Array4<T> {
    matrix
        .insert_axis(Axis(2))
        .insert_axis(Axis(3))
        .as_standard_layout()
        .into_owned()
}
