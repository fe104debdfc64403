//! A layer as one to fewer channels, then a 1×1: truncated SVD.

use ndarray::Array4;
use rankfold_decompose::{
    ChannelFactors, Rank as Components, channel_curve, channel_max_rank, channel_svd,
};

use super::{Context, Kernels, Rule, at_every_rank, failed};
use crate::cost::StageOutline;
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::{Geometry, Layer};

/// The SVD of the T × (S·Dh·Dw) matrix of filters: D×D from S to R with stride and padding, then 1×1 from
/// R to T.
#[derive(Debug)]
pub(super) struct Channel {
    form: Form,
}

/// Linear layers, and convolutions of one tap without groups.
pub(super) const LINEAR: Channel = Channel { form: Form::Svd };

/// Convolutions of more than one tap.
pub(super) const SPATIAL: Channel = Channel {
    form: Form::Channel,
};

impl Rule for Channel {
    fn form(&self) -> Form {
        self.form
    }

    fn applies(&self, layer: &Layer) -> Result<(), Refusal> {
        let groups = layer.geometry.groups;
        match (self.form, layer.is_pointwise()) {
            (Form::Svd, false) => Err(Refusal::NotLinear),
            (Form::Svd, true) if groups > 1 => Err(Refusal::Grouped { groups }),
            (Form::Svd, true) => Ok(()),
            _ if layer.is_depthwise() => Err(Refusal::Depthwise),
            (_, true) => Err(Refusal::NotSpatial),
            _ => Ok(()),
        }
    }

    fn has_spectrum(&self) -> bool {
        true
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
        let covariance = context.covariance(layer)?;
        let options = context.conv_options(layer, covariance.as_ref());
        at_every_rank(layer, ranks, |rank| {
            let components = Components::new(rank.largest())?;
            let factors = channel_svd(kernel.view(), components, &options, context.control)?;
            Ok(vec![factors.first, factors.second])
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
        channel_curve(kernel.view(), &ranks, &options).map_err(failed(layer))
    }

    fn reconstruct(&self, layer: &Layer, kernels: &[Array4<f32>]) -> Array4<f32> {
        let factors = ChannelFactors {
            first: kernels[0].clone(),
            second: kernels[1].clone(),
            groups: layer.geometry.groups,
            relative_error: 0.0,
        };
        factors.reconstruct()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::rule;

    #[test]
    fn the_svd_of_a_matrix_is_for_one_matrix() {
        let graph = rankfold_zoo::build("resnet20", &rankfold_zoo::Options::default()).unwrap();
        let layers = Layer::all(&graph);
        let mut layer = layers[5].clone();
        let svd = rule(Form::Svd).unwrap();
        assert!(matches!(svd.applies(&layer), Err(Refusal::NotLinear)));
        layer.shape = [8, 4, 1, 1];
        assert!(svd.applies(&layer).is_ok());
        layer.geometry.groups = 2;
        let refused = svd.applies(&layer);
        assert!(matches!(refused, Err(Refusal::Grouped { groups: 2 })));
    }
}
