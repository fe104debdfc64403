//! The least total loss within a budget: bisection of the price, then a greedy fill.

use super::Allowance;
use super::hull::{Vertex, lower_hull};
use crate::curves::{LayerCurves, Point};
use crate::error::CompressError;

/// A point for every layer, minimising Σ loss subject to Σ cost ≤ limit.
///
/// Every layer takes the hull vertex of least loss + λ·cost; λ is bisected until the budget is met,
/// and what is left over buys the steps of the steepest fall.
pub(super) fn least_loss(
    curves: &[LayerCurves],
    allowance: Allowance,
    loss: impl Fn(&Point) -> f64,
) -> Result<Vec<Point>, CompressError> {
    let hulls: Vec<Vec<Vertex>> = curves
        .iter()
        .map(|layer| {
            let vertex = |(index, point): (usize, &Point)| Vertex {
                cost: allowance.count(point),
                loss: loss(point),
                index,
            };
            lower_hull(layer.points.iter().enumerate().map(vertex).collect())
        })
        .collect();
    let total = |choice: &[usize]| -> u64 {
        let costs = hulls.iter().zip(choice).map(|(hull, &i)| hull[i].cost);
        costs.sum()
    };
    let cheapest = vec![0; hulls.len()];
    if total(&cheapest) > allowance.limit {
        return Err(allowance.unmet(total(&cheapest)));
    }
    let at_price = |price: f64| -> Vec<usize> {
        let best = |hull: &Vec<Vertex>| {
            let value = |v: &Vertex| v.loss + price * v.cost as f64;
            let order = |a: &usize, b: &usize| value(&hull[*a]).total_cmp(&value(&hull[*b]));
            (0..hull.len()).min_by(order).unwrap_or(0)
        };
        hulls.iter().map(best).collect()
    };
    let mut choice = at_price(0.0);
    if total(&choice) > allowance.limit {
        choice = cheapest;
        let (mut low, mut high) = (-60.0f64, 60.0f64);
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            let candidate = at_price(middle.exp());
            if total(&candidate) <= allowance.limit {
                choice = candidate;
                high = middle;
            } else {
                low = middle;
            }
        }
    }
    let left = allowance.limit - total(&choice);
    fill(&hulls, &mut choice, left);
    let point =
        |(layer, (hull, &i)): (&LayerCurves, (&Vec<Vertex>, &usize))| layer.points[hull[i].index];
    Ok(curves
        .iter()
        .zip(hulls.iter().zip(&choice))
        .map(point)
        .collect())
}

/// Spends what is left on the affordable step that lowers the loss most for its cost.
fn fill(hulls: &[Vec<Vertex>], choice: &mut [usize], mut left: u64) {
    loop {
        let steps = hulls.iter().enumerate().flat_map(|(layer, hull)| {
            let at = hull[choice[layer]];
            let affordable =
                move |(_, v): &(usize, &Vertex)| v.cost > at.cost && v.cost - at.cost <= left;
            let rate = move |(i, v): (usize, &Vertex)| {
                let cost = v.cost - at.cost;
                ((at.loss - v.loss) / cost as f64, layer, i, cost)
            };
            hull.iter().enumerate().filter(affordable).map(rate)
        });
        let Some((rate, layer, vertex, cost)) = steps.max_by(|a, b| a.0.total_cmp(&b.0)) else {
            return;
        };
        if rate <= 0.0 {
            return;
        }
        choice[layer] = vertex;
        left -= cost;
    }
}
