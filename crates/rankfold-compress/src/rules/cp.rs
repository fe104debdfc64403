//! CP forms: a convolution as rank-one terms over input channels, taps and output channels.

use ndarray::{Array2, Array4, Axis, concatenate};
use rankfold_decompose::cp::{
    self as decompose, Als, CpForm, CpMethod, CpOptions, CpWeights, Refine, Start, Target,
    cp_curve, cp_weighted_curve, max_rank, refine,
};
use rankfold_decompose::{DecomposeError, InputCovariance};

use super::{Context, Kernels, Rule, failed};
use crate::cost::StageOutline;
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::{Geometry, Layer};
use crate::probe::LayerStatistics;

/// One of the CP forms.
#[derive(Debug)]
pub(super) struct Cp {
    form: Form,
    axes: CpForm,
}

/// Two-way: D×D to R channels, then 1×1.
pub(super) static TWO_WAY: Cp = Cp {
    form: Form::Cp2,
    axes: CpForm::TwoWay,
};

/// Three-way: 1×1, depthwise D×D, 1×1.
pub(super) static THREE_WAY: Cp = Cp {
    form: Form::Cp3,
    axes: CpForm::ThreeWay,
};

/// Four-way: 1×1, depthwise D×1, depthwise 1×D, 1×1.
pub(super) static FOUR_WAY: Cp = Cp {
    form: Form::Cp4,
    axes: CpForm::FourWay,
};

/// Sweeps before the refinement takes over: more make a start no better.
const SWEEPS_BEFORE_REFINEMENT: usize = 15;

/// The fewest sweeps that are worth starting, at least as many as it takes to compare two starts.
const LEAST_SWEEPS: usize = 6;

/// Weight of the plain response error in the metric of the output, so that no channel counts nothing.
const PLAIN_SHARE: f64 = 0.01;

impl Cp {
    /// Options for ranks up to `rank`, with as many sweeps as the context has work for.
    fn options(&self, layer: &Layer, rank: usize, context: &Context<'_>) -> CpOptions {
        let default = Als::default();
        let limit = context.sweeps(sweep_work(layer, rank), LEAST_SWEEPS, default.max_sweeps);
        let als = Als {
            max_sweeps: limit,
            // Comparing starts costs sweeps too.
            start: match limit < 4 * LEAST_SWEEPS {
                true => Start::Slices,
                false => default.start,
            },
            ..default
        };
        CpOptions {
            form: self.axes,
            method: CpMethod::Als(als),
            groups: layer.geometry.groups,
            seed: context.seed,
            threads: context.threads,
            ..CpOptions::default()
        }
    }

    /// The rank at which the form is exact.
    fn exact_rank(&self, layer: &Layer) -> usize {
        max_rank(layer.shape, layer.geometry.groups, self.axes)
    }

    fn sizes(&self, layer: &Layer, ranks: &[Rank]) -> Vec<usize> {
        let exact = self.exact_rank(layer);
        ranks.iter().map(|rank| rank.largest().min(exact)).collect()
    }

    fn plain(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[usize],
        context: &Context<'_>,
    ) -> Result<Vec<decompose::Cp<f32>>, CompressError> {
        let options = self.options(layer, largest(ranks), context);
        cp_curve(kernel.view(), ranks, &options, context.control).map_err(failed(layer))
    }

    /// Data-aware factors: under C_channel ⊗ C_spatial first, then refined under C itself and the
    /// metric of the outputs.
    fn weighted(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[usize],
        covariance: &InputCovariance,
        context: &Context<'_>,
    ) -> Result<Vec<CpWeights<f32>>, DecomposeError> {
        let of_one = refinement_work(layer, largest(ranks));
        let sweeps = context.sweeps(of_one, 0, context.refinement);
        let refined = self.axes == CpForm::ThreeWay && sweeps > 0;
        let mut options = self.options(layer, largest(ranks), context);
        if let (true, CpMethod::Als(als)) = (refined, &mut options.method) {
            als.max_sweeps = als.max_sweeps.min(SWEEPS_BEFORE_REFINEMENT);
        }
        let curve = cp_weighted_curve(kernel.view(), ranks, covariance, &options, context.control)?;
        let starts = curve.into_iter().map(|cp| cp.weights);
        if !refined {
            return Ok(starts.collect());
        }
        let metric = context.statistics.and_then(output_metric);
        let options = Refine {
            sweeps,
            threads: context.threads,
            ..Refine::default()
        };
        starts
            .map(|start| {
                let target = Target {
                    covariance,
                    cross: None,
                    outputs: metric.as_ref().map(|metric| metric.view()),
                };
                refine(kernel.view(), &start, target, &options, context.control)
            })
            .collect()
    }
}

fn largest(ranks: &[usize]) -> usize {
    ranks.iter().copied().max().unwrap_or(1)
}

/// Multiplications of one ALS sweep: two products of every group's kernel with factors, and the normal
/// equations of the three factors, in doubles.
fn sweep_work(layer: &Layer, rank: usize) -> f64 {
    let groups = layer.geometry.groups;
    let [outputs, inputs, height, width] = layer.shape;
    let (outputs, rank) = ((outputs / groups) as f64, (rank / groups) as f64);
    let (inputs, taps) = (inputs as f64, (height * width) as f64);
    let products = 2.0 * outputs * inputs * taps * rank;
    let equations = rank * rank * (rank + 2.0 * (outputs + inputs + taps));
    groups as f64 * (products + equations)
}

/// Multiplications of one sweep of refinement: products of the covariance with the terms, for each of the
/// steps towards the input factor too, and the system of the taps.
fn refinement_work(layer: &Layer, rank: usize) -> f64 {
    let groups = layer.geometry.groups;
    let [outputs, inputs, height, width] = layer.shape;
    let (outputs, rank) = ((outputs / groups) as f64, (rank / groups) as f64);
    let taps = (height * width) as f64;
    let patch = inputs as f64 * taps;
    let steps = Refine::default().steps as f64;
    let products = (outputs + rank * (steps + 1.0)) * patch * patch;
    let system = (rank * taps).powi(3) / 3.0;
    groups as f64 * (products + system)
}

/// The output metric in units of its mean diagonal, with a share of the identity.
pub(crate) fn output_metric(statistics: &LayerStatistics) -> Option<Array2<f64>> {
    let metric = statistics.output_metric.as_ref()?;
    let mean = metric.diag().sum() / metric.nrows() as f64;
    if mean.is_nan() || mean <= 0.0 {
        return None;
    }
    let mut blended = metric / mean;
    blended.diag_mut().mapv_inplace(|x| x + PLAIN_SHARE);
    Some(blended)
}

/// The kernels of a chain with zeros for the channels in the middle that are missing to `rank`.
fn padded(mut kernels: Kernels, rank: usize) -> Kernels {
    let missing = rank.saturating_sub(kernels[0].len_of(Axis(0)));
    if missing == 0 {
        return kernels;
    }
    let last = kernels.len() - 1;
    for (i, axis) in [(0, Axis(0)), (last, Axis(1))] {
        let mut shape = kernels[i].raw_dim();
        shape[axis.index()] = missing;
        let zeros = Array4::zeros(shape);
        kernels[i] = concatenate![axis, kernels[i], zeros];
    }
    kernels
}

/// Three-way factors fitted anew to what the layer should answer to other inputs than its own.
pub(crate) fn refitted(
    layer: &Layer,
    kernel: &Array4<f32>,
    factors: &[Array4<f32>],
    target: Target<'_>,
    context: &Context<'_>,
) -> Result<Kernels, CompressError> {
    let options = Refine {
        sweeps: context.refinement,
        threads: context.threads,
        ..Refine::default()
    };
    let start = joined(layer, factors);
    refine(kernel.view(), &start, target, &options, context.control)
        .map(kernels)
        .map_err(failed(layer))
}

/// The factors of a layer as weights of the decomposition crate.
fn joined(layer: &Layer, kernels: &[Array4<f32>]) -> CpWeights<f32> {
    let last = kernels.len() - 1;
    CpWeights {
        input: kernels[0].clone(),
        spatial: kernels[1..last].to_vec(),
        output: kernels[last].clone(),
        groups: layer.geometry.groups,
    }
}

fn kernels(weights: CpWeights<f32>) -> Kernels {
    let CpWeights {
        input,
        spatial,
        output,
        ..
    } = weights;
    std::iter::once(input)
        .chain(spatial)
        .chain([output])
        .collect()
}

impl Rule for Cp {
    fn form(&self) -> Form {
        self.form
    }

    fn applies(&self, layer: &Layer) -> Result<(), Refusal> {
        let [height, width] = layer.taps();
        if layer.is_depthwise() {
            return Err(Refusal::Depthwise);
        }
        match self.axes {
            CpForm::TwoWay | CpForm::ThreeWay if layer.is_pointwise() => Err(Refusal::NotSpatial),
            CpForm::FourWay if height == 1 || width == 1 => {
                Err(Refusal::OneSided { height, width })
            }
            _ => Ok(()),
        }
    }

    /// For an ungrouped two-way form the larger of the two sides: the paper gives VGG16's first layer
    /// rank 59 where 27 are exact. What is above the exact rank is zero.
    fn full_rank(&self, layer: &Layer) -> Rank {
        let exact = self.exact_rank(layer);
        let [out, input, height, width] = layer.shape;
        Rank::One(match (self.axes, layer.geometry.groups) {
            (CpForm::TwoWay, 1) => out.max(input * height * width),
            _ => exact,
        })
    }

    fn rank_step(&self, layer: &Layer) -> usize {
        layer.geometry.groups
    }

    fn affordable(&self, layer: &Layer, work: f64) -> usize {
        if self.axes == CpForm::TwoWay {
            return usize::MAX;
        }
        let fits = |&rank: &usize| sweep_work(layer, rank) * LEAST_SWEEPS as f64 <= work;
        (1..=self.exact_rank(layer)).rev().find(fits).unwrap_or(1)
    }

    fn outline(&self, layer: &Layer, rank: Rank) -> Vec<StageOutline> {
        let rank = rank.largest();
        let groups = layer.geometry.groups;
        let [out, input, height, width] = layer.shape;
        let stage = |kernel, geometry| StageOutline { kernel, geometry };
        let last = stage(
            [out, rank / groups, 1, 1],
            Geometry::POINTWISE.grouped(groups),
        );
        if self.axes == CpForm::TwoWay {
            let first = stage([rank, input, height, width], layer.geometry);
            return vec![first, last];
        }
        let first = stage([rank, input, 1, 1], Geometry::POINTWISE.grouped(groups));
        let depthwise = layer.geometry.grouped(rank);
        let mut stages = vec![first];
        match self.axes {
            CpForm::FourWay => {
                stages.push(stage([rank, 1, height, 1], depthwise.along(0)));
                stages.push(stage([rank, 1, 1, width], depthwise.along(1)));
            }
            CpForm::TwoWay | CpForm::ThreeWay => {
                stages.push(stage([rank, 1, height, width], depthwise));
            }
        }
        stages.push(last);
        stages
    }

    fn factors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<Kernels>, CompressError> {
        let wanted = ranks;
        let ranks = self.sizes(layer, ranks);
        let weights = match context.covariance(layer)? {
            Some(covariance) => self
                .weighted(layer, kernel, &ranks, &covariance, context)
                .map_err(failed(layer))?,
            None => self
                .plain(layer, kernel, &ranks, context)?
                .into_iter()
                .map(|cp| cp.weights)
                .collect(),
        };
        let padded = |(weights, rank): (_, &Rank)| padded(kernels(weights), rank.largest());
        Ok(weights.into_iter().zip(wanted).map(padded).collect())
    }

    fn weight_errors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<f64>, CompressError> {
        let curve = self.plain(layer, kernel, &self.sizes(layer, ranks), context)?;
        Ok(curve.iter().map(|cp| cp.relative_error).collect())
    }

    fn reconstruct(&self, layer: &Layer, kernels: &[Array4<f32>]) -> Array4<f32> {
        joined(layer, kernels).reconstruct()
    }
}

#[cfg(test)]
mod tests {
    use rankfold_zoo::{InitialWeights, Options, build};

    use super::*;
    use crate::rules::rule;

    fn layer(network: &str, name: &str) -> Layer {
        let options = Options {
            weights: InitialWeights::Zeros,
            ..Options::default()
        };
        let layers = Layer::all(&build(network, &options).unwrap());
        layers.into_iter().find(|layer| layer.name == name).unwrap()
    }

    #[test]
    fn work_is_that_of_products_and_systems() {
        // Two groups of 128 outputs and 48 inputs, 5×5, and of three terms.
        let layer = layer("alexnet-caffe", "conv2");
        let (products, equations) = (2 * 128 * 48 * 25 * 3, 9 * (3 + 2 * (128 + 48 + 25)));
        assert_eq!(sweep_work(&layer, 6), f64::from(2 * (products + equations)));
        let steps = Refine::default().steps as i32;
        let (products, system) = ((128 + 3 * (steps + 1)) * 1200 * 1200, 75 * 75 * 75 / 3);
        assert_eq!(
            refinement_work(&layer, 6),
            f64::from(2 * (products + system))
        );
    }

    #[test]
    fn the_largest_affordable_rank_is_the_last_whose_sweeps_fit() {
        let layer = layer("resnet20", "layer2.1.conv1");
        let rule = rule(Form::Cp3).unwrap();
        let work = sweep_work(&layer, 10) * LEAST_SWEEPS as f64;
        assert_eq!(rule.affordable(&layer, work), 10);
        assert_eq!(rule.affordable(&layer, work - 1.0), 9);
        assert_eq!(rule.affordable(&layer, 0.0), 1);
    }
}
