//! Data-aware CP: the error is that of the layer's response, not of its weights.
//!
//! With C ≈ C_channel ⊗ C_spatial the response error of Δ = W − Ŵ is the plain norm of
//! Δ ×₂ C_channel^½ ×₃ C_spatial^½, and rank-one terms stay rank-one under that change of
//! coordinates: the transformed kernel is decomposed by the plain algorithm and the factors are
//! mapped back by the inverse roots.

use ndarray::{Array4, ArrayView4, Axis, concatenate};

use crate::control::Control;
use crate::conv::{ConvOptions, channel_svd};
use crate::cp::factors::Spatial;
use crate::cp::layout::CpWeights;
use crate::cp::options::{CpForm, CpOptions};
use crate::cp::run::{Cp, check_input, cp_curve};
use crate::error::Result;
use crate::rank::Rank;
use crate::scalar::Scalar;
use crate::svd::SvdOptions;
use crate::weighted::{InputCovariance, KroneckerMetric};

/// The data-aware decompositions of a kernel [T, S/groups, Dh, Dw] at every rank of `ranks`.
///
/// `relative_error` is the relative error of the response under the covariance itself, and the
/// energy (with its bound) is that of the terms' responses under its Kronecker approximation. The
/// two-way form needs no approximation and is the data-aware [`channel_svd`].
pub fn cp_weighted_curve<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    ranks: &[usize],
    covariance: &InputCovariance,
    options: &CpOptions,
    control: Control<'_>,
) -> Result<Vec<Cp<T>>> {
    check_input(&kernel, ranks, options)?;
    let (outputs, inputs, height, width) = kernel.dim();
    let (groups, threads, taps) = (options.groups, options.threads, (height, width));
    covariance.expect(groups, inputs * height * width)?;
    if options.form == CpForm::TwoWay {
        return two_way(kernel, ranks, covariance, options, control);
    }
    let metrics = (0..groups)
        .map(|group| match options.form {
            CpForm::FourWay => KroneckerMetric::apart(covariance, group, taps),
            CpForm::ThreeWay | CpForm::TwoWay => KroneckerMetric::joint(covariance, group, taps),
        })
        .collect::<Result<Vec<_>>>()?;
    let whitened: Vec<Array4<T>> = kernel
        .axis_chunks_iter(Axis(0), outputs / groups)
        .zip(&metrics)
        .map(|(group, metric)| metric.whiten(group, threads))
        .collect();
    let views: Vec<_> = whitened.iter().map(|w| w.view()).collect();
    let whitened = concatenate(Axis(0), &views).expect("invariant: groups have one shape");
    let mut curve = cp_curve(whitened.view(), ranks, options, control)?;
    for point in &mut curve {
        let parts = metrics
            .iter()
            .enumerate()
            .map(|(g, metric)| restore(&point.weights, g, metric, taps));
        point.weights = CpWeights::assemble(parts.collect());
        let model = point.weights.reconstruct();
        point.relative_error = covariance.response_error(kernel, model.view(), threads)?;
    }
    Ok(curve)
}

/// The data-aware decomposition at one rank, as [`cp_weighted_curve`].
pub fn cp_weighted<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    rank: usize,
    covariance: &InputCovariance,
    options: &CpOptions,
    control: Control<'_>,
) -> Result<Cp<T>> {
    let mut curve = cp_weighted_curve(kernel, &[rank], covariance, options, control)?;
    Ok(curve
        .pop()
        .expect("invariant: one rank in, one decomposition out"))
}

/// The weights of one group mapped back from the coordinates of `metric`.
fn restore<T: Scalar>(
    weights: &CpWeights<T>,
    group: usize,
    metric: &KroneckerMetric,
    taps: (usize, usize),
) -> CpWeights<T> {
    let mut factors = weights.factors(group);
    factors.b = metric.restore_channels(factors.b.view());
    factors.spatial = match factors.spatial {
        Spatial::Joint(c) => Spatial::Joint(metric.restore_taps(c.view())),
        Spatial::Split(h, v) => Spatial::Split(
            metric.restore_height(h.view()).unwrap_or(h),
            metric.restore_width(v.view()).unwrap_or(v),
        ),
    };
    factors.balance();
    CpWeights::from_factors(&factors, taps)
}

fn two_way<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    ranks: &[usize],
    covariance: &InputCovariance,
    options: &CpOptions,
    control: Control<'_>,
) -> Result<Vec<Cp<T>>> {
    let svd = SvdOptions {
        seed: options.seed,
        threads: options.threads,
        ..SvdOptions::default()
    };
    let channel = ConvOptions {
        groups: options.groups,
        covariance: Some(covariance),
        svd,
        ..ConvOptions::default()
    };
    ranks
        .iter()
        .map(|&rank| {
            let found = channel_svd(kernel, Rank::new(rank)?, &channel, control)?;
            Ok(Cp {
                relative_error: found.relative_error,
                energy: 1.0 - found.relative_error.powi(2),
                iterations: 0,
                weights: CpWeights {
                    input: found.first,
                    spatial: Vec::new(),
                    output: found.second,
                    groups: found.groups,
                },
            })
        })
        .collect()
}
