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
    let vertices = |layer: &LayerCurves| -> Vec<Vertex> {
        let vertex = |(index, point): (usize, &Point)| Vertex {
            cost: allowance.count(point),
            loss: loss(point),
            index,
        };
        layer.points.iter().enumerate().map(vertex).collect()
    };
    let all: Vec<Vec<Vertex>> = curves.iter().map(vertices).collect();
    let hulls: Vec<Vec<Vertex>> = all.iter().cloned().map(lower_hull).collect();
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
    let mut taken: Vec<Vertex> = hulls
        .iter()
        .zip(&choice)
        .map(|(hull, &i)| hull[i])
        .collect();
    fill(&all, &mut taken, left);
    let points = curves.iter().zip(&taken);
    Ok(points
        .map(|(layer, vertex)| layer.points[vertex.index])
        .collect())
}

/// Spends what is left on the affordable step that lowers the loss most for its cost, to any point of a
/// layer: where there are few layers, what lies between two vertices of a hull is much.
fn fill(all: &[Vec<Vertex>], taken: &mut [Vertex], mut left: u64) {
    loop {
        let steps = all
            .iter()
            .zip(&*taken)
            .enumerate()
            .flat_map(|(layer, (points, &at))| {
                let affordable = move |v: &&Vertex| v.cost > at.cost && v.cost - at.cost <= left;
                let rate =
                    move |v: &Vertex| ((at.loss - v.loss) / (v.cost - at.cost) as f64, layer, *v);
                points.iter().filter(affordable).map(rate)
            });
        let Some((rate, layer, vertex)) = steps.max_by(|a, b| a.0.total_cmp(&b.0)) else {
            return;
        };
        if rate <= 0.0 {
            return;
        }
        left -= vertex.cost - taken[layer].cost;
        taken[layer] = vertex;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_buys_points_above_the_hull() {
        let vertex = |(index, &(cost, loss)): (usize, &(u64, f64))| Vertex { cost, loss, index };
        let layer = |points: &[(u64, f64)]| points.iter().enumerate().map(vertex).collect();
        let all: [Vec<Vertex>; 2] = [
            layer(&[(4, 3.5), (7, 3.6), (8, 3.0), (20, 0.0)]),
            layer(&[(3, 1.0), (5, 0.8)]),
        ];
        for (left, expected) in [
            (0, [0, 0]),
            (1, [0, 0]),
            (3, [0, 1]),
            (5, [2, 0]),
            (6, [2, 1]),
        ] {
            let mut taken = [all[0][0], all[1][0]];
            fill(&all, &mut taken, left);
            assert_eq!(taken.map(|vertex| vertex.index), expected, "{left} left");
        }
    }
}
