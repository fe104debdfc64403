//! The lower convex hull of loss over cost.

/// A point's cost, its loss and its place in the list that it came from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Vertex {
    pub(super) cost: u64,
    pub(super) loss: f64,
    pub(super) index: usize,
}

/// The vertices of the lower convex hull, cheapest first: loss falls and the slope flattens.
pub(super) fn lower_hull(mut points: Vec<Vertex>) -> Vec<Vertex> {
    points.sort_by(|a, b| a.cost.cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
    let mut hull: Vec<Vertex> = Vec::new();
    for point in points {
        if hull.last().is_some_and(|last| point.loss >= last.loss) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            let bends_up = slope(before, last) >= slope(before, point);
            if !bends_up {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

fn slope(from: Vertex, to: Vertex) -> f64 {
    (to.loss - from.loss) / (to.cost - from.cost) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertices(points: &[(u64, f64)]) -> Vec<Vertex> {
        let vertex = |(index, &(cost, loss))| Vertex { cost, loss, index };
        points.iter().enumerate().map(vertex).collect()
    }

    #[test]
    fn dominated_and_concave_points_are_dropped() {
        let points = vertices(&[(1, 10.0), (2, 9.9), (3, 2.0), (4, 3.0), (5, 1.0), (9, 0.0)]);
        let kept: Vec<usize> = lower_hull(points).iter().map(|v| v.index).collect();
        assert_eq!(kept, [0, 2, 4, 5]);
    }

    #[test]
    fn equal_costs_keep_the_better() {
        let hull = lower_hull(vertices(&[(1, 5.0), (1, 4.0), (2, 1.0)]));
        assert_eq!(hull.iter().map(|v| v.index).collect::<Vec<_>>(), [1, 2]);
    }
}
