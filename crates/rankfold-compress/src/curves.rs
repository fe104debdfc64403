//! What every layer loses in every form at every rank.

use ndarray::Array4;
use rankfold_decompose::{Control, Threads, evbmf};
use rankfold_graph::Graph;
use rayon::prelude::*;

use crate::apply::needs_new_bias;
use crate::cost::{LayerCost, kept_cost};
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::Layer;
use crate::probe::Statistics;
use crate::rules::{Context, Distance, Kernels, Original, RULES, Rule, as_matrix, failed};
use crate::sweep::Answer;

/// A layer in one form at one rank: what it costs and what it loses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The form.
    pub form: Form,
    /// The rank; none for a layer that is kept.
    pub rank: Option<Rank>,
    /// What it costs.
    pub cost: LayerCost,
    /// How far it is from the layer.
    pub distance: Distance,
    /// True where the distance was measured, false where it lies between two measured ranks.
    pub measured: bool,
    /// How the network answers with this layer alone so; none where no sweep tells.
    pub answer: Option<Answer>,
    /// How long it takes; none where that was not measured.
    pub nanoseconds: Option<u64>,
}

/// All that a layer can become.
#[derive(Debug, Clone)]
pub struct LayerCurves {
    /// The layer.
    pub layer: Layer,
    /// The layer as it is and every form and rank that makes it smaller.
    pub points: Vec<Point>,
    /// The forms that it cannot take, and why.
    pub refused: Vec<(Form, Refusal)>,
    /// The number of singular values of the T × (S·D²) matrix that EVBMF finds significant.
    pub evbmf: Option<usize>,
}

/// How curves are measured.
#[derive(Debug, Clone)]
pub struct CurveOptions {
    /// Ranks measured for every form.
    pub ranks: usize,
    /// The least rank, as a share of the rank at which a form costs as much as the layer.
    pub floor: f64,
    /// Sweeps by which data-aware CP factors are refined.
    pub refinement: usize,
    /// Seed of every random choice.
    pub seed: u64,
    /// Estimate ranks by EVBMF too.
    pub evbmf: bool,
    /// Start at rank 1, and measure every rank of the forms whose weight errors are read off one spectrum.
    pub every_rank: bool,
}

impl Default for CurveOptions {
    fn default() -> Self {
        Self {
            ranks: 11,
            floor: 0.03,
            refinement: 3,
            seed: 0,
            evbmf: false,
            every_rank: false,
        }
    }
}

/// Multiplications for one point of a curve: about a second on one core. Ranks beyond what they allow
/// save a large layer little, and the forms that are solved directly are there for those.
const WORK: f64 = 3e10;

/// Kernels of more numbers than this are measured at fewer ranks.
const LARGE_KERNEL: usize = 500_000;
const RANKS_OF_LARGE: usize = 5;

/// Measures the curves of layers side by side; `forms` names those that each may take.
pub(crate) fn curves(
    graph: &Graph,
    layers: &[(Layer, Vec<Form>)],
    statistics: &Statistics,
    options: &CurveOptions,
    control: Control<'_>,
    finished: &(dyn Fn(&str) + Sync),
) -> Result<Vec<LayerCurves>, CompressError> {
    let measure = |(layer, forms): &(Layer, Vec<Form>)| {
        let result = layer_curves(graph, layer, forms, statistics, options, control);
        finished(&layer.name);
        result
    };
    let mut largest_first: Vec<usize> = (0..layers.len()).collect();
    largest_first.sort_by_key(|&i| std::cmp::Reverse(layers[i].0.kernel_len()));
    let mut measured = largest_first
        .into_par_iter()
        .with_max_len(1)
        .map(|i| Ok((i, measure(&layers[i])?)))
        .collect::<Result<Vec<_>, CompressError>>()?;
    measured.sort_by_key(|(i, _)| *i);
    Ok(measured.into_iter().map(|(_, curves)| curves).collect())
}

fn layer_curves(
    graph: &Graph,
    layer: &Layer,
    forms: &[Form],
    statistics: &Statistics,
    options: &CurveOptions,
    control: Control<'_>,
) -> Result<LayerCurves, CompressError> {
    let kept = Point {
        form: Form::Keep,
        rank: None,
        cost: kept_cost(layer),
        distance: Distance {
            weight: 0.0,
            response: Some(0.0),
            damage: Some(0.0),
        },
        measured: true,
        answer: None,
        nanoseconds: None,
    };
    let mut curves = LayerCurves {
        layer: layer.clone(),
        points: vec![kept],
        refused: Vec::new(),
        evbmf: None,
    };
    if let Some(refusal) = &layer.fixed {
        curves.refused = forms.iter().map(|&f| (f, refusal.clone())).collect();
        return Ok(curves);
    }
    let kernel = layer.kernel(graph)?;
    if options.evbmf {
        let estimate = evbmf(as_matrix(&kernel).view(), Threads::Serial);
        let estimate = estimate.map_err(|source| CompressError::Decompose {
            layer: layer.name.clone(),
            source,
        })?;
        curves.evbmf = Some(estimate.rank);
    }
    let statistics = statistics.get(&layer.name);
    let context = Context {
        statistics,
        refinement: options.refinement,
        work: Some(WORK),
        seed: options.seed,
        threads: Threads::Serial,
        control,
    };
    let new_bias = match statistics.is_some() && needs_new_bias(graph, layer) {
        true => layer.out_channels() as u64,
        false => 0,
    };
    for rule in RULES.iter().filter(|rule| forms.contains(&rule.form())) {
        match form_points(*rule, layer, &kernel, options, &context)? {
            Ok(points) => curves.points.extend(points.into_iter().map(|mut point| {
                point.cost.parameters += new_bias;
                point
            })),
            Err(refusal) => curves.refused.push((rule.form(), refusal)),
        }
    }
    Ok(curves)
}

type FormPoints = Result<Vec<Point>, Refusal>;

fn form_points(
    rule: &dyn Rule,
    layer: &Layer,
    kernel: &Array4<f32>,
    options: &CurveOptions,
    context: &Context<'_>,
) -> Result<FormPoints, CompressError> {
    if let Err(refusal) = rule.applies(layer) {
        return Ok(Err(refusal));
    }
    let floor = if options.every_rank {
        0.0
    } else {
        options.floor
    };
    let scales = match rank_scales(rule, layer, floor) {
        Ok(scales) => scales,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let from_spectrum = rule.has_spectrum() && context.statistics.is_none();
    let count = if options.every_rank && from_spectrum {
        scales.len()
    } else if kernel.len() > LARGE_KERNEL {
        RANKS_OF_LARGE.min(options.ranks)
    } else {
        options.ranks
    };
    let grid = spread(&scales, count);
    let ranks: Vec<Rank> = grid.iter().map(|&s| rule.rank_at(layer, s)).collect();
    let measured = distances(rule, layer, kernel, &ranks, context)?;
    let points = scales.iter().map(|&scale| {
        let rank = rule.rank_at(layer, scale);
        Point {
            form: rule.form(),
            rank: Some(rank),
            cost: rule.cost(layer, rank),
            distance: between(&grid, &measured, scale),
            measured: grid.contains(&scale),
            answer: None,
            nanoseconds: None,
        }
    });
    let mut points: Vec<Point> = points.collect();
    points.dedup_by_key(|point| point.rank);
    Ok(Ok(points))
}

/// How far the factors are from the layer at every one of the ranks.
fn distances(
    rule: &dyn Rule,
    layer: &Layer,
    kernel: &Array4<f32>,
    ranks: &[Rank],
    context: &Context<'_>,
) -> Result<Vec<Distance>, CompressError> {
    if context.statistics.is_none() {
        let errors = rule.weight_errors(layer, kernel, ranks, context)?;
        let distance = |weight| Distance {
            weight,
            response: None,
            damage: None,
        };
        return Ok(errors.into_iter().map(distance).collect());
    }
    let factors = rule.factors(layer, kernel, ranks, context)?;
    let original = Original::new(kernel, context.statistics, context.threads);
    let measure = |kernels: &Kernels| {
        context.control.check().map_err(failed(layer))?;
        Ok(original.distance(&rule.reconstruct(layer, kernels)))
    };
    factors.iter().map(measure).collect()
}

/// Every rank from the floor to the last that has fewer parameters or fewer multiply-accumulates than the layer.
pub(crate) fn rank_scales(
    rule: &dyn Rule,
    layer: &Layer,
    floor: f64,
) -> Result<Vec<usize>, Refusal> {
    let full = rule.full_rank(layer).largest();
    let own = kept_cost(layer);
    let cheaper = |scale: usize| {
        let cost = rule.cost(layer, rule.rank_at(layer, scale));
        cost.parameters < own.parameters || (own.macs > 0 && cost.macs < own.macs)
    };
    let step = rule.rank_step(layer);
    let most = full.min(rule.affordable(layer, WORK));
    let last = (1..=most).rev().find(|&scale| cheaper(scale));
    let Some(last) = last else {
        return Err(Refusal::NoGain {
            rank: rule.rank_at(layer, 1),
        });
    };
    let floor = ((last as f64 * floor).ceil() as usize).clamp(1, last);
    let mut scales: Vec<usize> = (floor..=last).filter(|s| s.is_multiple_of(step)).collect();
    if scales.is_empty() {
        scales.push(last);
    }
    Ok(scales)
}

/// At most `count` of the values, the ends included, closer together where ranks are small.
fn spread(values: &[usize], count: usize) -> Vec<usize> {
    if values.len() <= count {
        return values.to_vec();
    }
    let last = values.len() - 1;
    let mut chosen: Vec<usize> = (0..count)
        .map(|i| {
            let share = i as f64 / (count - 1) as f64;
            values[(share.powf(1.4) * last as f64).round() as usize]
        })
        .collect();
    chosen.dedup();
    chosen
}

/// The distance at `scale`, on a straight line between the measured neighbours.
fn between(grid: &[usize], measured: &[Distance], scale: usize) -> Distance {
    let above = grid.partition_point(|&g| g < scale).min(grid.len() - 1);
    let below = if grid[above] == scale {
        above
    } else {
        above.saturating_sub(1)
    };
    if below == above {
        return measured[above];
    }
    let share = (scale - grid[below]) as f64 / (grid[above] - grid[below]) as f64;
    let mix = |a: f64, b: f64| a + (b - a) * share;
    let mix_option = |a: Option<f64>, b: Option<f64>| Some(mix(a?, b?));
    let (a, b) = (&measured[below], &measured[above]);
    Distance {
        weight: mix(a.weight, b.weight),
        response: mix_option(a.response, b.response),
        damage: mix_option(a.damage, b.damage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_lies_on_straight_lines() {
        let at = |weight: f64| Distance {
            weight,
            response: Some(2.0 * weight),
            damage: None,
        };
        let (grid, measured) = ([2, 6, 8], [at(0.8), at(0.4), at(0.1)]);
        for (scale, weight) in [(2, 0.8), (3, 0.7), (5, 0.5), (6, 0.4), (7, 0.25), (8, 0.1)] {
            let found = between(&grid, &measured, scale);
            assert!((found.weight - weight).abs() < 1e-12, "{scale}: {found:?}");
            assert!(
                (found.response.unwrap() - 2.0 * weight).abs() < 1e-12,
                "{scale}"
            );
            assert_eq!(found.damage, None);
        }
    }
}
