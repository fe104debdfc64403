//! A convolution as 1×1, D×D between fewer channels, 1×1.

use ndarray::Array4;
use rankfold_decompose::{
    ConvOptions, InputCovariance, Tucker2Factors, Tucker2Rank, tucker2, tucker2_curve,
    tucker2_max_rank,
};

use super::{Context, Kernels, Rule, at_every_rank, failed};
use crate::cost::StageOutline;
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::{Geometry, Layer};

/// Tucker-2: 1×1 from S to R₁, D×D from R₁ to R₂, 1×1 from R₂ to T.
#[derive(Debug)]
pub(super) struct Tucker2;

fn pair(rank: Rank) -> [usize; 2] {
    match rank {
        Rank::One(rank) => [rank; 2],
        Rank::Two(pair) => pair,
    }
}

/// Multiplications of one HOOI sweep, about: products and Gram matrices, and two symmetric eigenproblems,
/// whose operations take ten times as long.
fn sweep_work(layer: &Layer, rank: Rank) -> f64 {
    let groups = layer.geometry.groups;
    let [outputs, inputs, height, width] = layer.shape;
    let per_group = |size: usize| size as f64 / groups as f64;
    let (outputs, inputs, taps) = (per_group(outputs), inputs as f64, (height * width) as f64);
    let [inner, outer] = pair(rank).map(per_group);
    let products = outputs * inputs * taps * (inner + outer);
    let grams = outputs * outputs * inner * taps + inputs * inputs * outer * taps;
    let eigen = 50.0 * (outputs.powi(3) + inputs.powi(3));
    groups as f64 * (products + grams + eigen)
}

fn options<'a>(
    layer: &Layer,
    ranks: &[Rank],
    covariance: Option<&'a InputCovariance>,
    context: &Context<'_>,
) -> ConvOptions<'a> {
    let options = context.conv_options(layer, covariance);
    let works = ranks.iter().map(|&rank| sweep_work(layer, rank));
    let work = works.fold(1.0, f64::max);
    ConvOptions {
        max_sweeps: context.sweeps(work, 1, options.max_sweeps),
        ..options
    }
}

impl Rule for Tucker2 {
    fn form(&self) -> Form {
        Form::Tucker2
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
        let (inputs, outputs) = tucker2_max_rank((t, s, h, w), layer.geometry.groups);
        Rank::Two([inputs, outputs])
    }

    fn rank_step(&self, layer: &Layer) -> usize {
        layer.geometry.groups
    }

    /// The two ranks in the proportion of the two numbers of channels.
    fn rank_at(&self, layer: &Layer, scale: usize) -> Rank {
        let [inputs, outputs] = pair(self.full_rank(layer));
        let largest = inputs.max(outputs);
        let step = self.rank_step(layer);
        let part = |max: usize| {
            let share = (scale * max).div_ceil(largest).clamp(1, max);
            (share.div_ceil(step) * step).min(max)
        };
        Rank::Two([part(inputs), part(outputs)])
    }

    fn outline(&self, layer: &Layer, rank: Rank) -> Vec<StageOutline> {
        let [inner, outer] = pair(rank);
        let groups = layer.geometry.groups;
        let [out, input, height, width] = layer.shape;
        let pointwise = Geometry::POINTWISE.grouped(groups);
        let stage = |kernel, geometry| StageOutline { kernel, geometry };
        vec![
            stage([inner, input, 1, 1], pointwise),
            stage([outer, inner / groups, height, width], layer.geometry),
            stage([out, outer / groups, 1, 1], pointwise),
        ]
    }

    fn factors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<Kernels>, CompressError> {
        let covariance = context.covariance(layer)?;
        let options = options(layer, ranks, covariance.as_ref(), context);
        at_every_rank(layer, ranks, |rank| {
            let [inner, outer] = pair(rank);
            let ranks = Tucker2Rank::new(inner, outer)?;
            let factors = tucker2(kernel.view(), ranks, &options, context.control)?;
            Ok(vec![factors.first, factors.core, factors.last])
        })
    }

    fn weight_errors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<f64>, CompressError> {
        let options = options(layer, ranks, None, context);
        let ranks = ranks
            .iter()
            .map(|&rank| Tucker2Rank::new(pair(rank)[0], pair(rank)[1]))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed(layer))?;
        tucker2_curve(kernel.view(), &ranks, &options, context.control).map_err(failed(layer))
    }

    fn reconstruct(&self, layer: &Layer, kernels: &[Array4<f32>]) -> Array4<f32> {
        let factors = Tucker2Factors {
            first: kernels[0].clone(),
            core: kernels[1].clone(),
            last: kernels[2].clone(),
            groups: layer.geometry.groups,
            relative_error: 0.0,
            sweeps: 0,
        };
        factors.reconstruct()
    }
}

#[cfg(test)]
mod tests {
    use rankfold_zoo::{InitialWeights, Options, build};

    use super::*;

    #[test]
    fn work_is_that_of_products_and_eigenproblems() {
        let options = Options {
            weights: InitialWeights::Zeros,
            ..Options::default()
        };
        let layers = Layer::all(&build("alexnet-caffe", &options).unwrap());
        let layer = layers.iter().find(|layer| layer.name == "conv2").unwrap();
        // Two groups of 128 outputs and 48 inputs, 5×5, and of ranks 2 and 3.
        let products = 128 * 48 * 25 * (2 + 3);
        let grams = 128 * 128 * 2 * 25 + 48 * 48 * 3 * 25;
        let eigen = 50 * (128 * 128 * 128 + 48 * 48 * 48);
        let work = f64::from(2 * (products + grams + eigen));
        assert_eq!(sweep_work(layer, Rank::Two([4, 6])), work);
    }
}
