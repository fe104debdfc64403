//! The smallest network whose expected answers are good enough.

use super::{Allowance, select};
use crate::budget::Resource;
use crate::curves::{LayerCurves, Point};
use crate::error::CompressError;
use crate::planner::Request;
use crate::sweep::{Answer, Evidence};

/// What a network whose layers stand at these points is expected to answer: divergences add up, and the
/// cells tell how many answers a divergence costs.
pub(crate) fn expected(evidence: &Evidence, points: &[Point]) -> Option<Answer> {
    let divergences = points.iter().map(|point| Some(point.answer?.divergence));
    let divergence: f64 = divergences.sum::<Option<f64>>()?;
    Some(Answer {
        divergence,
        drop: evidence.drop_at(divergence),
    })
}

/// The points of fewest parameters, as the selection chooses them, whose expected answers `keeps` lets
/// pass; it has nothing to say where the sweep has no labels.
pub(crate) fn smallest(
    curves: &[LayerCurves],
    request: &Request,
    keeps: impl Fn(Answer) -> Option<bool>,
) -> Result<Vec<Point>, CompressError> {
    let evidence = request.evidence()?.ok_or(CompressError::SweepLabels)?;
    let allowance = |limit: u64| Allowance {
        resource: Resource::Parameters,
        limit,
        budget: limit,
        unit: 1,
        rest: 0,
    };
    let parameters = |point: Option<&Point>| point.map_or(0, |point| point.cost.parameters);
    let all: u64 = (curves.iter())
        .map(|layer| parameters(layer.points.first()))
        .sum();
    let within = |limit: u64| select(curves, request, allowance(limit)).ok();
    let mut best = within(all).ok_or(CompressError::NothingToDo)?;
    let (mut low, mut high) = (0, all);
    while high - low > 1 + all / 4096 {
        let middle = low.midpoint(high);
        let Some(points) = within(middle) else {
            low = middle;
            continue;
        };
        let kept = expected(evidence, &points).and_then(&keeps);
        match kept.ok_or(CompressError::SweepLabels)? {
            true => (best, high) = (points, middle),
            false => low = middle,
        }
    }
    Ok(best)
}
