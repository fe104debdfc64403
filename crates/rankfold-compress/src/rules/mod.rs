//! One rule per form: what it costs, how good it is at every rank, and the layers it makes.
//!
//! A new form is a file here and a line in [`RULES`].

mod channel;
mod cp;
mod spatial;
mod tucker2;

pub(crate) use cp::{output_metric, refitted};

use ndarray::{Array1, Array2, Array4};
use rankfold_decompose::{
    Control, ConvOptions, DecomposeError, InputCovariance, SvdOptions, Threads, dot,
};

use crate::cost::{LayerCost, StageOutline, chain_cost};
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::Layer;
use crate::probe::LayerStatistics;

/// Every rule, in the order in which forms are tried.
pub const RULES: &[&dyn Rule] = &[
    &channel::LINEAR,
    &cp::THREE_WAY,
    &tucker2::Tucker2,
    &spatial::Spatial,
    &channel::SPATIAL,
    &cp::FOUR_WAY,
    &cp::TWO_WAY,
];

/// The rule that makes a form; none for [`Form::Keep`].
pub fn rule(form: Form) -> Option<&'static dyn Rule> {
    RULES.iter().copied().find(|rule| rule.form() == form)
}

/// What a decomposition is given besides the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// Second moments of the layer's inputs; plain weight error is minimised without them.
    pub statistics: Option<&'a LayerStatistics>,
    /// Sweeps of refinement under the full metric of the statistics.
    pub refinement: usize,
    /// Multiplications that an iterative fit may take at one rank; no limit where there is none.
    pub work: Option<f64>,
    /// Seed of every random choice.
    pub seed: u64,
    /// How many cores.
    pub threads: Threads,
    /// Progress and cancellation.
    pub control: Control<'a>,
}

/// The kernels of the smaller layers that a layer becomes, in order.
pub type Kernels = Vec<Array4<f32>>;

impl Context<'_> {
    /// The sweeps that there is work for, between `least` and `most`, where one takes so many
    /// multiplications.
    fn sweeps(&self, of_one: f64, least: usize, most: usize) -> usize {
        self.work
            .map_or(most, |work| ((work / of_one) as usize).clamp(least, most))
    }

    /// The options of the decomposition crate; plain without a covariance.
    fn conv_options<'c>(
        &self,
        layer: &Layer,
        covariance: Option<&'c InputCovariance>,
    ) -> ConvOptions<'c> {
        ConvOptions {
            groups: layer.geometry.groups,
            covariance,
            svd: SvdOptions {
                seed: self.seed,
                threads: self.threads,
                ..SvdOptions::default()
            },
            ..ConvOptions::default()
        }
    }

    /// The covariance of the layer's inputs in the decomposition crate's terms.
    fn covariance(&self, layer: &Layer) -> Result<Option<InputCovariance>, CompressError> {
        let Some(statistics) = self.statistics else {
            return Ok(None);
        };
        let covariance = InputCovariance::grouped(statistics.covariance.clone());
        covariance.map(Some).map_err(failed(layer))
    }
}

/// Names the layer in which a decomposition failed.
pub(crate) fn failed(layer: &Layer) -> impl Fn(DecomposeError) -> CompressError + '_ {
    |source| CompressError::Decompose {
        layer: layer.name.clone(),
        source,
    }
}

/// The kernels that `fit` finds at every one of the ranks.
fn at_every_rank(
    layer: &Layer,
    ranks: &[Rank],
    fit: impl Fn(Rank) -> Result<Kernels, DecomposeError>,
) -> Result<Vec<Kernels>, CompressError> {
    ranks
        .iter()
        .map(|&rank| fit(rank).map_err(failed(layer)))
        .collect()
}

/// A way to replace a layer by smaller ones.
pub trait Rule: Sync {
    /// The form that it makes.
    fn form(&self) -> Form;

    /// Why the layer cannot take the form, where it cannot.
    fn applies(&self, layer: &Layer) -> Result<(), Refusal>;

    /// The rank that reproduces the layer.
    fn full_rank(&self, layer: &Layer) -> Rank;

    /// What `rank` is divided by: a rank is a multiple of it.
    fn rank_step(&self, _layer: &Layer) -> usize {
        1
    }

    /// True where the weight errors of all ranks are read off one spectrum.
    fn has_spectrum(&self) -> bool {
        false
    }

    /// The largest rank that can be fitted within `work` multiplications.
    fn affordable(&self, _layer: &Layer, _work: f64) -> usize {
        usize::MAX
    }

    /// The smaller layers at a rank, without their numbers.
    fn outline(&self, layer: &Layer, rank: Rank) -> Vec<StageOutline>;

    /// A rank out of a single number between 1 and that of [`Rule::full_rank`]'s largest part.
    fn rank_at(&self, layer: &Layer, scale: usize) -> Rank {
        let step = self.rank_step(layer);
        Rank::One((scale.div_ceil(step) * step).min(self.full_rank(layer).largest()))
    }

    /// The kernels [out, in / groups, rows, columns] of the smaller layers at every one of the ranks.
    fn factors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<Kernels>, CompressError>;

    /// The relative weight error at every one of the ranks, without regard to data.
    fn weight_errors(
        &self,
        layer: &Layer,
        kernel: &Array4<f32>,
        ranks: &[Rank],
        context: &Context<'_>,
    ) -> Result<Vec<f64>, CompressError>;

    /// The kernel that the factors stand for, [T, S / groups, Dh, Dw].
    fn reconstruct(&self, layer: &Layer, kernels: &[Array4<f32>]) -> Array4<f32>;

    /// What the smaller layers cost at a rank.
    fn cost(&self, layer: &Layer, rank: Rank) -> LayerCost {
        chain_cost(layer, &self.outline(layer, rank))
    }
}

/// How far `approximation` is from `kernel`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// ‖W − Ŵ‖ / ‖W‖.
    pub weight: f64,
    /// The same under the covariance of the inputs: the relative error of the layer's response.
    pub response: Option<f64>,
    /// tr[G (W − Ŵ) C (W − Ŵ)ᵀ]: the response error weighted by what it does to the output.
    pub damage: Option<f64>,
}

/// A kernel [T, S / groups, Dh, Dw] that approximations are measured against, with what the statistics allow.
pub(crate) struct Original<'a> {
    kernel: &'a Array4<f32>,
    statistics: Option<&'a LayerStatistics>,
    /// The energy of the layer's response, where there are statistics.
    energy: f64,
    threads: Threads,
}

impl<'a> Original<'a> {
    pub(crate) fn new(
        kernel: &'a Array4<f32>,
        statistics: Option<&'a LayerStatistics>,
        threads: Threads,
    ) -> Self {
        let mut original = Self {
            kernel,
            statistics,
            energy: 0.0,
            threads,
        };
        original.energy = original.response(&kernel.mapv(f64::from)).0;
        original
    }

    /// tr[D C Dᵀ] and, where the outputs have a metric, tr[G D C Dᵀ].
    fn response(&self, difference: &Array4<f64>) -> (f64, f64) {
        let (mut error, mut damage) = (0.0, 0.0);
        let Some(statistics) = self.statistics else {
            return (error, damage);
        };
        let groups = statistics.covariance.len();
        let difference = as_matrix(difference);
        for (group, covariance) in statistics.covariance.iter().enumerate() {
            let rows = group_rows(difference.nrows(), groups, group);
            let own = difference.slice(ndarray::s![rows.clone(), ..]);
            let response = dot(own, covariance.view(), self.threads);
            error += (&response * &own).sum();
            if let Some(metric) = &statistics.output_metric {
                let metric = metric.slice(ndarray::s![rows.clone(), rows.clone()]);
                damage += (&dot(metric, response.view(), self.threads) * &own).sum();
            }
        }
        (error, damage)
    }

    /// How far an approximation is from it.
    pub(crate) fn distance(&self, approximation: &Array4<f32>) -> Distance {
        let ratio = |part: f64, of: f64| {
            if of > 0.0 {
                (part / of).max(0.0).sqrt()
            } else {
                0.0
            }
        };
        let (mut missed, mut whole) = (0.0, 0.0);
        for (&w, &v) in self.kernel.iter().zip(approximation) {
            let (w, v) = (f64::from(w), f64::from(v));
            missed += (w - v) * (w - v);
            whole += w * w;
        }
        let (error, damage) = self.response(&(self.kernel - approximation).mapv(f64::from));
        let metric = self.statistics.and_then(|own| own.output_metric.as_ref());
        Distance {
            weight: ratio(missed, whole),
            response: self.statistics.map(|_| ratio(error, self.energy)),
            damage: metric.map(|_| damage.max(0.0)),
        }
    }
}

/// The rows of a T-row matrix that belong to a group.
pub(crate) fn group_rows(rows: usize, groups: usize, group: usize) -> std::ops::Range<usize> {
    let each = rows / groups;
    group * each..(group + 1) * each
}

/// A kernel as a T × (S·Dh·Dw) matrix.
pub(crate) fn as_matrix<T: Clone>(kernel: &Array4<T>) -> Array2<T> {
    let (t, s, h, w) = kernel.dim();
    let owned = kernel.as_standard_layout().into_owned();
    owned
        .into_shape_with_order((t, s * h * w))
        .expect("invariant: a standard layout reshapes")
}

/// (W − Ŵ) E[x]: what the mean of the responses loses, to be given back by a bias.
pub(crate) fn mean_shift(
    kernel: &Array4<f32>,
    approximation: &Array4<f32>,
    statistics: &LayerStatistics,
) -> Array1<f64> {
    let difference = as_matrix(&(kernel - approximation).mapv(f64::from));
    let groups = statistics.mean.len();
    let mut shift = Array1::zeros(kernel.dim().0);
    for (group, mean) in statistics.mean.iter().enumerate() {
        let rows = group_rows(kernel.dim().0, groups, group);
        let part = difference.slice(ndarray::s![rows.clone(), ..]).dot(mean);
        shift.slice_mut(ndarray::s![rows]).assign(&part);
    }
    shift
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};
    use rankfold_decompose::Threads;

    use super::*;

    #[test]
    fn distances_are_sums_over_groups() {
        // Two groups of two outputs each, over one input of two taps.
        let kernel = Array4::from_shape_vec((4, 1, 1, 2), (1..=8).map(|w| w as f32).collect());
        let kernel = kernel.unwrap();
        let approximation = kernel.mapv(|w| w - 0.5 * w * (w - 4.0).signum());
        let covariance = [
            array![[2.0, 1.0], [1.0, 3.0]],
            array![[5.0, -2.0], [-2.0, 1.0]],
        ];
        let metric = Array2::from_shape_fn((4, 4), |(i, j)| 1.0 / (1 + i + j) as f64);
        let statistics = LayerStatistics {
            mean: vec![Array1::zeros(2); 2],
            covariance: covariance.to_vec(),
            output_metric: Some(metric.clone()),
            samples: 10,
        };
        let row = |of: &Array4<f32>, t: usize| [0, 1].map(|tap| f64::from(of[[t, 0, 0, tap]]));
        let difference = &kernel - &approximation;
        // Of every pair of outputs of one group: what their rows have in common under the covariance.
        let common = |of: &Array4<f32>, i: usize, j: usize| {
            let (a, b) = (row(of, i), row(of, j));
            let c = &covariance[i / 2];
            (0..4)
                .map(|k| a[k / 2] * c[[k / 2, k % 2]] * b[k % 2])
                .sum::<f64>()
        };
        let energy = |of| (0..4).map(|i| common(of, i, i)).sum::<f64>();
        let pairs = (0..16)
            .map(|k| (k / 4, k % 4))
            .filter(|(i, j)| i / 2 == j / 2);
        let damage: f64 = pairs
            .map(|(i, j)| metric[[i, j]] * common(&difference, i, j))
            .sum();
        let threads = Threads::Serial;
        let measured = Original::new(&kernel, Some(&statistics), threads).distance(&approximation);
        let close = |found: f64, expected: f64| {
            assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}")
        };
        close(
            measured.response.unwrap(),
            (energy(&difference) / energy(&kernel)).sqrt(),
        );
        close(measured.damage.unwrap(), damage);
        let squares = |of: &Array4<f32>| of.iter().map(|w| f64::from(w * w)).sum::<f64>();
        close(
            measured.weight,
            (squares(&difference) / squares(&kernel)).sqrt(),
        );
        let blind = Original::new(&kernel, None, threads).distance(&approximation);
        assert_eq!((blind.response, blind.damage), (None, None));
        close(blind.weight, measured.weight);
    }
}
