//! Equal loss in every layer, as AIMET's greedy selection has it.

use super::Allowance;
use crate::curves::{LayerCurves, Point};
use crate::error::CompressError;

/// Every layer at its cheapest point that loses no more than one number for all, which is as small as
/// the budget allows.
pub(super) fn equal_loss(
    curves: &[LayerCurves],
    allowance: Allowance,
    loss: impl Fn(&Point) -> f64,
) -> Result<Vec<Point>, CompressError> {
    let all = curves
        .iter()
        .flat_map(|layer| layer.points.iter().map(&loss));
    let mut bounds: Vec<f64> = all.filter(|loss| loss.is_finite()).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    let within = |bound: f64| -> Vec<Point> {
        let cheapest = |layer: &LayerCurves| {
            let fits = layer.points.iter().filter(|point| loss(point) <= bound);
            let least = fits.min_by(|a, b| {
                let cost = allowance.count(a).cmp(&allowance.count(b));
                cost.then(loss(a).total_cmp(&loss(b)))
            });
            *least.unwrap_or(&layer.points[0])
        };
        curves.iter().map(cheapest).collect()
    };
    let total = |points: &[Point]| -> u64 { points.iter().map(|p| allowance.count(p)).sum() };
    let fits = |bound: &f64| total(&within(*bound)) <= allowance.limit;
    let place = bounds.partition_point(|bound| !fits(bound));
    match bounds.get(place) {
        Some(&bound) => Ok(within(bound)),
        None => {
            let most = bounds.last().copied().unwrap_or(0.0);
            Err(allowance.unmet(total(&within(most))))
        }
    }
}
