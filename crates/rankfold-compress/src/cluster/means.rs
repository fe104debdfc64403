//! k-means of numbers on a line, where the best of all clusterings can be found.
//!
//! Clusters of sorted numbers are ranges, so that the least sum of squares for k clusters of the first n
//! numbers follows from those for k − 1: D(k, n) = min over i of D(k − 1, i) + cost(i, n). Where the last
//! cluster begins only moves up with n, which lets halving find all of a row in n log n steps.

/// Points beyond which neighbours are put together before the search. What that loses is less than a
/// percent of what clustering loses, and is mostly won back afterwards.
const POINTS: usize = 1 << 13;

/// Rounds of giving every number to the nearest mean and taking the means anew.
const ROUNDS: usize = 100;

/// At most `count` values in order, such that the numbers' squared distances from the nearest sum up to
/// the least.
///
/// Where more than one number in `count` is exactly zero, as pruning leaves them, zero is one of the
/// values.
pub fn means(numbers: &[f32], count: usize) -> Vec<f32> {
    let mut sorted: Vec<f32> = numbers.iter().map(|n| n + 0.0).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let zeros = sorted.iter().filter(|&&n| n == 0.0).count();
    let keeps_zero = count > 1 && zeros * count > sorted.len();
    if keeps_zero {
        sorted.retain(|&n| n != 0.0);
    }
    let line = Line::new(&sorted);
    let own = count - usize::from(keeps_zero);
    let ends = line.improve(line.best(own));
    let mut values: Vec<f32> = line.means(&ends);
    values.extend(keeps_zero.then_some(0.0));
    values.sort_unstable_by(f32::total_cmp);
    values.dedup();
    values
}

/// Sorted numbers with their running sums.
struct Line<'a> {
    numbers: &'a [f32],
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl<'a> Line<'a> {
    fn new(numbers: &'a [f32]) -> Self {
        let running = |f: fn(f64) -> f64| {
            let mut sum = 0.0;
            let rest = numbers.iter().map(|&n| {
                sum += f(n.into());
                sum
            });
            std::iter::once(0.0).chain(rest).collect()
        };
        Self {
            numbers,
            sums: running(|n| n),
            squares: running(|n| n * n),
        }
    }

    fn mean(&self, start: usize, end: usize) -> f64 {
        (self.sums[end] - self.sums[start]) / (end - start) as f64
    }

    /// The sum of squared distances from the mean of a range.
    fn cost(&self, start: usize, end: usize) -> f64 {
        if end <= start {
            return 0.0;
        }
        let sum = self.sums[end] - self.sums[start];
        let squares = self.squares[end] - self.squares[start];
        (squares - sum * sum / (end - start) as f64).max(0.0)
    }

    fn means(&self, ends: &[usize]) -> Vec<f32> {
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let ranges = starts.zip(ends).filter(|(start, end)| start < *end);
        ranges
            .map(|(start, &end)| self.mean(start, end) as f32)
            .collect()
    }

    /// Where points end: equal numbers are one, and close ones where there are too many.
    fn points(&self) -> Vec<usize> {
        let changes = |from: usize| {
            (from..self.numbers.len())
                .find(|&i| self.numbers[i] != self.numbers[from])
                .unwrap_or(self.numbers.len())
        };
        let mut ends = Vec::new();
        let mut at = 0;
        while at < self.numbers.len() {
            at = changes(at);
            ends.push(at);
        }
        let Some((&low, &high)) = self.numbers.first().zip(self.numbers.last()) else {
            return ends;
        };
        if ends.len() <= POINTS {
            return ends;
        }
        let width = (f64::from(high) - f64::from(low)) / POINTS as f64;
        let bin =
            |end: usize| ((f64::from(self.numbers[end - 1]) - f64::from(low)) / width) as usize;
        let last_of_bin = |pair: &[usize]| bin(pair[0]) != bin(pair[1]);
        let inner = ends.windows(2).filter(|pair| last_of_bin(pair));
        let mut merged: Vec<usize> = inner.map(|pair| pair[0]).collect();
        merged.push(self.numbers.len());
        merged
    }

    /// Where the best `count` clusters end, those of points that were put together not torn apart.
    fn best(&self, count: usize) -> Vec<usize> {
        let points = self.points();
        if points.len() <= count {
            return points;
        }
        let place = |n: usize| if n == 0 { 0 } else { points[n - 1] };
        let mut least: Vec<f64> = (0..=points.len()).map(|n| self.cost(0, place(n))).collect();
        let mut begins: Vec<Vec<u32>> = Vec::new();
        for _ in 1..count {
            let mut row = Row {
                before: &least,
                cost: |start: usize, end: usize| self.cost(place(start), place(end)),
                least: vec![0.0; points.len() + 1],
                begins: vec![0; points.len() + 1],
            };
            row.fill(1, points.len(), 0, points.len());
            let Row {
                least: now,
                begins: own,
                ..
            } = row;
            least = now;
            begins.push(own);
        }
        let mut ends = vec![place(points.len())];
        let mut at = points.len();
        for row in begins.iter().rev() {
            at = row[at] as usize;
            ends.push(place(at));
        }
        ends.reverse();
        ends
    }

    /// Ends at which every number is nearest to the mean of its own cluster, from others on.
    fn improve(&self, mut ends: Vec<usize>) -> Vec<usize> {
        for _ in 0..ROUNDS {
            let means = self.means(&ends);
            let middle = |pair: &[f32]| (f64::from(pair[0]) + f64::from(pair[1])) / 2.0;
            let end = |middle: f64| self.numbers.partition_point(|&n| f64::from(n) < middle);
            let mut next: Vec<usize> = means.windows(2).map(middle).map(end).collect();
            next.push(self.numbers.len());
            if next == ends {
                break;
            }
            ends = next;
        }
        ends
    }
}

/// The least costs of one more cluster than `before`, and where the last one begins.
struct Row<'a, F> {
    before: &'a [f64],
    cost: F,
    least: Vec<f64>,
    begins: Vec<u32>,
}

impl<F: Fn(usize, usize) -> f64> Row<'_, F> {
    /// Fills the places from `low` to `high`, whose last clusters begin from `from` to `to`.
    fn fill(&mut self, low: usize, high: usize, from: usize, to: usize) {
        if low > high {
            return;
        }
        let middle = low + (high - low) / 2;
        let (mut best, mut begin) = (f64::INFINITY, from);
        for start in from..=to.min(middle) {
            let sum = self.before[start] + (self.cost)(start, middle);
            if sum < best {
                (best, begin) = (sum, start);
            }
        }
        (self.least[middle], self.begins[middle]) = (best, begin as u32);
        self.fill(low, middle - 1, from, begin);
        self.fill(middle + 1, high, begin, to);
    }
}
