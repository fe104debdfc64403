//! A convolution as a D×D one to fewer channels, then a 1×1.

use ndarray::Array4;
use rankfold_decompose::channel_max_rank;

use super::linear::{join_two_stages, two_stage_errors, two_stages};
use super::{Context, Kernels, Rule};
use crate::cost::StageOutline;
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::{Geometry, Layer};

/// The SVD of the T × (S·Dh·Dw) matrix of filters: D×D from S to R, then 1×1 from R to T.
#[derive(Debug)]
pub(super) struct Channel;

impl Rule for Channel {
    fn form(&self) -> Form {
        Form::Channel
    }

    fn applies(&self, layer: &Layer) -> Result<(), Refusal> {
        match (layer.is_depthwise(), layer.is_pointwise()) {
            (true, _) => Err(Refusal::Depthwise),
            (_, true) => Err(Refusal::NotSpatial),
            _ => Ok(()),
        }
    }

    fn full_rank(&self, layer: &Layer) -> Rank {
        let [t, s, h, w] = layer.shape;
        let groups = layer.geometry.groups;
        Rank::One(channel_max_rank((t, s, h, w), groups))
    }

    fn rank_step(&self, layer: &Layer) -> usize {
        layer.geometry.groups
    }

    fn outline(&self, layer: &Layer, rank: Rank) -> Vec<StageOutline> {
        let rank = rank.largest();
        let groups = layer.geometry.groups;
        let [out, input, height, width] = layer.shape;
        let first = StageOutline {
            kernel: [rank, input, height, width],
            geometry: layer.geometry,
        };
        let last = StageOutline {
            kernel: [out, rank / groups, 1, 1],
            geometry: Geometry::POINTWISE.grouped(groups),
        };
        vec![first, last]
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
