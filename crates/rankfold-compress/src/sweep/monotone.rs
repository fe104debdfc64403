//! Falling curves through measured points.

/// The closest non-increasing sequence in the sense of least squares (pool adjacent violators).
pub(super) fn falling(values: &[f64]) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for &value in values {
        blocks.push((value, 1));
        while let [.., (before, n), (last, m)] = blocks[..] {
            if before >= last {
                break;
            }
            let mean = (before * n as f64 + last * m as f64) / (n + m) as f64;
            blocks.truncate(blocks.len() - 2);
            blocks.push((mean, n + m));
        }
    }
    let repeated = |&(value, count): &(f64, usize)| std::iter::repeat_n(value, count);
    blocks.iter().flat_map(repeated).collect()
}

/// A monotone cubic through points (Fritsch and Butland's slopes), straight beyond the last of them.
#[derive(Debug, Clone)]
pub(super) struct Cubic {
    x: Vec<f64>,
    y: Vec<f64>,
    slopes: Vec<f64>,
}

impl Cubic {
    /// The curve through points with rising `x`; none where there is no point.
    pub(super) fn new(x: Vec<f64>, y: Vec<f64>) -> Option<Self> {
        let last = x.len().min(y.len()).checked_sub(1)?;
        let secant = |i: usize| (y[i + 1] - y[i]) / (x[i + 1] - x[i]);
        let slope = |i: usize| match (i, last) {
            (_, 0) => 0.0,
            (0, _) => secant(0),
            (i, last) if i == last => secant(last - 1),
            (i, _) => {
                let (left, right) = (secant(i - 1), secant(i));
                if left * right <= 0.0 {
                    return 0.0;
                }
                let (before, after) = (x[i] - x[i - 1], x[i + 1] - x[i]);
                let (a, b) = (2.0 * after + before, after + 2.0 * before);
                (a + b) / (a / left + b / right)
            }
        };
        let slopes = (0..=last).map(slope).collect();
        Some(Self { x, y, slopes })
    }

    /// The value at `at`; before the first point that of the first.
    pub(super) fn at(&self, at: f64) -> f64 {
        let last = self.x.len() - 1;
        if at <= self.x[0] {
            return self.y[0];
        }
        if at >= self.x[last] {
            return self.y[last] + self.slopes[last] * (at - self.x[last]);
        }
        let right = self.x.partition_point(|&x| x <= at);
        let left = right - 1;
        let width = self.x[right] - self.x[left];
        let t = (at - self.x[left]) / width;
        let (t2, t3) = (t * t, t * t * t);
        (2.0 * t3 - 3.0 * t2 + 1.0) * self.y[left]
            + (t3 - 2.0 * t2 + t) * width * self.slopes[left]
            + (3.0 * t2 - 2.0 * t3) * self.y[right]
            + (t3 - t2) * width * self.slopes[right]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn violators_are_pooled() {
        assert_eq!(falling(&[5.0, 1.0, 3.0, 0.0]), [5.0, 2.0, 2.0, 0.0]);
        assert_eq!(falling(&[1.0, 2.0, 3.0]), [2.0, 2.0, 2.0]);
        assert_eq!(falling(&[]), [0.0; 0]);
    }

    #[test]
    fn straight_lines_stay_straight() {
        let cubic = Cubic::new(vec![1.0, 2.0, 5.0], vec![4.0, 3.0, 0.0]).unwrap();
        for at in [1.0, 1.5, 3.0, 4.9, 6.0] {
            assert!((cubic.at(at) - (5.0 - at)).abs() < 1e-12, "{at}");
        }
        assert_eq!(cubic.at(0.0), 4.0);
        assert_eq!(Cubic::new(vec![2.0], vec![7.0]).unwrap().at(9.0), 7.0);
    }

    proptest! {
        #[test]
        fn curves_through_falling_points_fall(
            steps in prop::collection::vec((0.1f64..5.0, 0.0f64..3.0), 2..8),
            shares in prop::collection::vec(0.0f64..1.0, 20),
        ) {
            let (mut x, mut y) = (vec![0.0], vec![10.0]);
            for (right, down) in steps {
                x.push(x[x.len() - 1] + right);
                y.push(y[y.len() - 1] - down);
            }
            let end = x[x.len() - 1];
            let cubic = Cubic::new(x.clone(), y.clone()).unwrap();
            for (x, y) in x.iter().zip(&y) {
                prop_assert!((cubic.at(*x) - y).abs() < 1e-9);
            }
            let mut places: Vec<f64> = shares.iter().map(|share| share * end * 1.1).collect();
            places.sort_by(f64::total_cmp);
            for pair in places.windows(2) {
                prop_assert!(cubic.at(pair[1]) <= cubic.at(pair[0]) + 1e-9);
            }
        }
    }
}
