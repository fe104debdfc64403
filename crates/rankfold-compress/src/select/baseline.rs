//! Simpler ways to choose ranks, to compare with: the paper's forms and one number for all layers.

use rankfold_graph::Graph;

use super::{Allowance, kept};
use crate::curves::{LayerCurves, Point};
use crate::error::CompressError;
use crate::form::Form;
use crate::layer::{Kind, Layer};

/// The form that the paper gives a layer: SVD for linear ones, two-way CP for a convolution of few
/// input channels, three-way CP for the rest.
pub(crate) fn paper_form(layer: &Layer, is_first: bool) -> Form {
    match layer.kind {
        Kind::Linear => Form::Svd,
        _ if layer.is_pointwise() => Form::Svd,
        _ if is_first => Form::Cp2,
        _ => Form::Cp3,
    }
}

/// One rank for every layer, as large as the budget allows.
pub(super) fn uniform(
    curves: &[LayerCurves],
    allowance: Allowance,
) -> Result<Vec<Point>, CompressError> {
    scaled(curves, allowance, &vec![1.0; curves.len()])
}

/// Ranks proportional to the layers' parameters.
pub(super) fn proportional(
    curves: &[LayerCurves],
    allowance: Allowance,
) -> Result<Vec<Point>, CompressError> {
    let weights: Vec<f64> = (curves.iter())
        .map(|c| c.layer.kernel_len() as f64)
        .collect();
    scaled(curves, allowance, &weights)
}

/// Ranks proportional to losses; layers without one are kept.
pub(super) fn sensitivity(
    curves: &[LayerCurves],
    allowance: Allowance,
    losses: &[(String, f64)],
) -> Result<Vec<Point>, CompressError> {
    let loss = |layer: &LayerCurves| losses.iter().find(|(name, _)| *name == layer.layer.name);
    let most = losses.iter().map(|(_, loss)| *loss).fold(0.0, f64::max);
    let (mut swept, mut weights) = (curves.to_vec(), Vec::with_capacity(curves.len()));
    for layer in &mut swept {
        let own = loss(layer).map(|(_, loss)| *loss);
        if own.is_none() {
            layer.points = vec![kept(layer)];
        }
        weights.push(own.unwrap_or(0.0).max(LEAST_SHARE * most).max(f64::EPSILON));
    }
    scaled(&swept, allowance, &weights)
}

/// The least sensitivity of a layer that seems to lose nothing, as a share of the largest.
const LEAST_SHARE: f64 = 0.01;

/// Ranks in the proportions of their EVBMF estimates.
pub(super) fn evbmf(
    curves: &[LayerCurves],
    allowance: Allowance,
) -> Result<Vec<Point>, CompressError> {
    let weights: Vec<f64> = (curves.iter())
        .map(|c| c.evbmf.unwrap_or(1).max(1) as f64)
        .collect();
    scaled(curves, allowance, &weights)
}

/// Every layer at the smallest rank that keeps one and the same share of its energy.
pub(super) fn energy(
    curves: &[LayerCurves],
    allowance: Allowance,
) -> Result<Vec<Point>, CompressError> {
    bisect(curves, allowance, |kept_energy| {
        curves
            .iter()
            .map(|layer| at_energy(layer, kept_energy))
            .collect()
    })
}

/// The layer at the smallest rank that keeps a share of the squared norm.
pub(crate) fn at_energy(curves: &LayerCurves, share: f64) -> Point {
    cheapest(curves, |point| 1.0 - point.distance.weight.powi(2) >= share)
}

/// The layer at the smallest rank whose weights have at most that mean squared error, among the ranks at
/// which it was measured.
pub(crate) fn at_mean_square(
    graph: &Graph,
    curves: &LayerCurves,
    most: f64,
) -> Result<Point, CompressError> {
    if curves.points.iter().all(|point| point.rank.is_none()) {
        return Ok(kept(curves));
    }
    let kernel = curves.layer.kernel(graph)?;
    let squares = kernel.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
    let whole = squares / kernel.len().max(1) as f64;
    Ok(cheapest(curves, |point| {
        point.measured && point.distance.weight.powi(2) * whole <= most
    }))
}

/// The factored point of fewest parameters among those that are good enough; the layer itself where
/// none is smaller.
fn cheapest(curves: &LayerCurves, enough: impl Fn(&Point) -> bool) -> Point {
    let factored = curves.points.iter().filter(|point| point.rank.is_some());
    factored
        .filter(|point| enough(point))
        .min_by_key(|point| point.cost.parameters)
        .copied()
        .filter(|point| point.cost.parameters < kept(curves).cost.parameters)
        .unwrap_or_else(|| kept(curves))
}

/// Ranks proportional to `weights`, the common factor as large as the budget allows.
fn scaled(
    curves: &[LayerCurves],
    allowance: Allowance,
    weights: &[f64],
) -> Result<Vec<Point>, CompressError> {
    let largest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let longest = curves
        .iter()
        .flat_map(|c| c.points.iter().filter_map(|p| Some(p.rank?.largest())))
        .max()
        .unwrap_or(1) as f64;
    let least = weights
        .iter()
        .copied()
        .fold(f64::MAX, f64::min)
        .max(f64::MIN_POSITIVE);
    bisect(curves, allowance, |share| {
        let scale = share * longest * largest / least;
        let pick = |(layer, &weight): (&LayerCurves, &f64)| {
            let wanted = (scale * weight / largest).round().max(1.0) as usize;
            nearest_rank(layer, wanted)
        };
        curves.iter().zip(weights).map(pick).collect()
    })
}

/// The factored point whose rank is nearest from below; the layer itself where it is as cheap.
fn nearest_rank(curves: &LayerCurves, wanted: usize) -> Point {
    let factored = || curves.points.iter().filter(|point| point.rank.is_some());
    let rank = |point: &&Point| point.rank.map_or(0, |rank| rank.largest());
    let at_most = factored().filter(|p| rank(p) <= wanted).max_by_key(rank);
    let longest = factored().map(|p| rank(&p)).max().unwrap_or(0);
    if wanted > longest {
        return kept(curves);
    }
    at_most
        .or_else(|| factored().min_by_key(rank))
        .copied()
        .unwrap_or_else(|| kept(curves))
}

/// The largest share in (0, 1] whose points fit the budget.
fn bisect(
    curves: &[LayerCurves],
    allowance: Allowance,
    points: impl Fn(f64) -> Vec<Point>,
) -> Result<Vec<Point>, CompressError> {
    let total = |points: &[Point]| -> u64 { points.iter().map(|p| allowance.count(p)).sum() };
    let everything: Vec<Point> = curves.iter().map(kept).collect();
    if total(&everything) <= allowance.limit {
        return Ok(everything);
    }
    let mut best = points(0.0);
    if total(&best) > allowance.limit {
        return Err(allowance.unmet(total(&best)));
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        let candidate = points(middle);
        if total(&candidate) <= allowance.limit {
            best = candidate;
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(best)
}
