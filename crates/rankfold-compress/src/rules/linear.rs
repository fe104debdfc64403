//! A linear layer, or a 1×1 convolution, as two by truncated SVD.

use ndarray::Array4;
use rankfold_decompose::{ChannelFactors, Rank as Components, channel_curve, channel_svd};

use super::{Context, Kernels, Rule, failed};
use crate::cost::StageOutline;
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::Layer;

/// `W ≈ U·V`: `V` maps S to R, then `U` maps R to T. A stride stays with the first of the two.
#[derive(Debug)]
pub(super) struct LinearSvd;

impl Rule for LinearSvd {
    fn form(&self) -> Form {
        Form::Svd
    }

    fn applies(&self, layer: &Layer) -> Result<(), Refusal> {
        match (layer.is_pointwise(), layer.geometry.groups) {
            (false, _) => Err(Refusal::NotLinear),
            (true, 1) => Ok(()),
            (true, groups) => Err(Refusal::Grouped { groups }),
        }
    }

    fn full_rank(&self, layer: &Layer) -> Rank {
        Rank::One(layer.shape[0].min(layer.shape[1]))
    }

    fn outline(&self, layer: &Layer, rank: Rank) -> Vec<StageOutline> {
        let rank = rank.largest();
        let first = StageOutline {
            kernel: [rank, layer.shape[1], 1, 1],
            geometry: layer.geometry,
        };
        vec![first, StageOutline::pointwise(layer.shape[0], rank)]
    }

    fn factors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<Kernels>, CompressError> {
        two_stages(layer, kernel, ranks, context)
    }

    fn weight_errors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<f64>, CompressError> {
        two_stage_errors(layer, kernel, ranks, context)
    }

    fn reconstruct(&self, layer: &Layer, kernels: &[Array4<f32>]) -> Array4<f32> {
        join_two_stages(layer, kernels)
    }
}

/// D×D (or 1×1) to R, then 1×1, at every rank: the SVD of the T × (S·D²) matrix of filters.
pub(super) fn two_stages(
    layer: &Layer,
    kernel: &Array4<f32>,
    ranks: &[Rank],
    context: &Context<'_>,
) -> Result<Vec<Kernels>, CompressError> {
    let covariance = context.covariance(layer)?;
    let options = context.conv_options(layer, covariance.as_ref());
    let at = |rank: &Rank| {
        let components = Components::new(rank.largest())?;
        let factors = channel_svd(kernel.view(), components, &options, context.control)?;
        Ok(vec![factors.first, factors.second])
    };
    ranks
        .iter()
        .map(|rank| at(rank).map_err(failed(layer)))
        .collect()
}

/// The weight errors of [`two_stages`], from one spectrum.
pub(super) fn two_stage_errors(
    layer: &Layer,
    kernel: &Array4<f32>,
    ranks: &[Rank],
    context: &Context<'_>,
) -> Result<Vec<f64>, CompressError> {
    let ranks: Vec<usize> = ranks.iter().map(|rank| rank.largest()).collect();
    let options = context.conv_options(layer, None);
    channel_curve(kernel.view(), &ranks, &options).map_err(failed(layer))
}

/// The kernel that two stages stand for.
pub(super) fn join_two_stages(layer: &Layer, kernels: &[Array4<f32>]) -> Array4<f32> {
    let factors = ChannelFactors {
        first: kernels[0].clone(),
        second: kernels[1].clone(),
        groups: layer.geometry.groups,
        relative_error: 0.0,
    };
    factors.reconstruct()
}
