//! A convolution as one along the rows, then one along the columns.

use ndarray::Array4;
use rankfold_decompose::{
    Rank as Components, SpatialFactors, spatial_curve, spatial_max_rank, spatial_svd,
};

use super::{Context, Kernels, Rule, at_every_rank, failed};
use crate::cost::StageOutline;
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::Layer;

/// Dh×1 from S to R with the vertical part of stride and padding, then 1×Dw from R to T.
#[derive(Debug)]
pub(super) struct Spatial;

impl Rule for Spatial {
    fn form(&self) -> Form {
        Form::Spatial
    }

    fn applies(&self, layer: &Layer) -> Result<(), Refusal> {
        let [height, width] = layer.taps();
        match (layer.is_depthwise(), height == 1 || width == 1) {
            (true, _) => Err(Refusal::Depthwise),
            (_, true) => Err(Refusal::OneSided { height, width }),
            _ => Ok(()),
        }
    }

    fn has_spectrum(&self) -> bool {
        true
    }

    fn full_rank(&self, layer: &Layer) -> Rank {
        let [t, s, h, w] = layer.shape;
        let groups = layer.geometry.groups;
        Rank::One(spatial_max_rank((t, s, h, w), groups))
    }

    fn rank_step(&self, layer: &Layer) -> usize {
        layer.geometry.groups
    }

    fn outline(&self, layer: &Layer, rank: Rank) -> Vec<StageOutline> {
        let rank = rank.largest();
        let [out, input, height, width] = layer.shape;
        let vertical = StageOutline {
            kernel: [rank, input, height, 1],
            geometry: layer.geometry.along(0),
        };
        let horizontal = StageOutline {
            kernel: [out, rank / layer.geometry.groups, 1, width],
            geometry: layer.geometry.along(1),
        };
        vec![vertical, horizontal]
    }

    fn factors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<Kernels>, CompressError> {
        let covariance = context.covariance(layer)?;
        let options = context.conv_options(layer, covariance.as_ref());
        at_every_rank(layer, ranks, |rank| {
            let components = Components::new(rank.largest())?;
            let factors = spatial_svd(kernel.view(), components, &options, context.control)?;
            Ok(vec![factors.vertical, factors.horizontal])
        })
    }

    fn weight_errors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<f64>, CompressError> {
        let ranks: Vec<usize> = ranks.iter().map(|rank| rank.largest()).collect();
        let options = context.conv_options(layer, None);
        spatial_curve(kernel.view(), &ranks, &options, context.control).map_err(failed(layer))
    }

    fn reconstruct(&self, layer: &Layer, kernels: &[Array4<f32>]) -> Array4<f32> {
        let factors = SpatialFactors {
            vertical: kernels[0].clone(),
            horizontal: kernels[1].clone(),
            groups: layer.geometry.groups,
            relative_error: 0.0,
        };
        factors.reconstruct()
    }
}
