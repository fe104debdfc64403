//! Pooling against windows written out.

use rankfold_graph::ops::{AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool};
use tch::Tensor;

use super::{check, input, single, tensor, values};

struct Windows {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [[usize; 2]; 2],
    dilation: [usize; 2],
    ceil: bool,
}

impl Windows {
    fn count(&self, size: usize, i: usize) -> usize {
        let padded = size + self.padding[i][0] + self.padding[i][1];
        let free = padded - (self.dilation[i] * (self.kernel[i] - 1) + 1);
        let mut count = free / self.stride[i] + 1;
        let over = !free.is_multiple_of(self.stride[i])
            && count * self.stride[i] < size + self.padding[i][0];
        count += usize::from(self.ceil && over);
        count
    }

    /// `fold` of every window's values and of the number of its places inside the padded input.
    fn reduce(&self, x: &Tensor, fold: impl Fn(&[f64], usize) -> f64) -> Tensor {
        let (n, c, h, w) = x.size4().unwrap();
        let (h, w) = (h as usize, w as usize);
        let xs = values(x);
        let (oh, ow) = (self.count(h, 0), self.count(w, 1));
        let mut y = Vec::new();
        for plane in xs.chunks(h * w) {
            for (row, column) in (0..oh).flat_map(|r| (0..ow).map(move |c| (r, c))) {
                let mut inside = Vec::new();
                let mut padded = 0;
                for (i, j) in
                    (0..self.kernel[0]).flat_map(|i| (0..self.kernel[1]).map(move |j| (i, j)))
                {
                    let r = row * self.stride[0] + i * self.dilation[0];
                    let c = column * self.stride[1] + j * self.dilation[1];
                    let [top, bottom] = self.padding[0];
                    let [left, right] = self.padding[1];
                    padded += usize::from(r < h + top + bottom && c < w + left + right);
                    if (top..h + top).contains(&r) && (left..w + left).contains(&c) {
                        inside.push(plane[(r - top) * w + c - left]);
                    }
                }
                y.push(fold(&inside, padded));
            }
        }
        tensor(&y, &[n, c, oh as i64, ow as i64])
    }
}

fn cases() -> Vec<Windows> {
    let base = |kernel, stride, padding, ceil| Windows {
        kernel,
        stride,
        padding,
        dilation: [1, 1],
        ceil,
    };
    vec![
        base([2, 2], [2, 2], [[0, 0], [0, 0]], false),
        base([3, 3], [2, 2], [[0, 0], [0, 0]], true),
        base([3, 3], [2, 2], [[1, 1], [1, 1]], false),
        base([3, 3], [2, 2], [[1, 1], [1, 1]], true),
        base([3, 2], [1, 3], [[1, 1], [0, 0]], true),
        base([3, 3], [2, 2], [[0, 1], [1, 0]], false),
        base([3, 3], [2, 2], [[0, 1], [1, 0]], true),
        base([2, 2], [3, 3], [[0, 0], [0, 1]], true),
        base([2, 3], [2, 2], [[2, 2], [1, 2]], false),
    ]
}

#[test]
fn max_pools_equal_the_windows_written_out() {
    let mut all = cases();
    let padded = all.remove(2);
    all.push(Windows {
        dilation: [2, 1],
        ..padded
    });
    for w in all {
        let op = MaxPool {
            kernel: w.kernel.to_vec(),
            stride: w.stride.to_vec(),
            padding: w.padding.to_vec(),
            dilation: w.dilation.to_vec(),
            ceil: w.ceil,
        };
        // Windows of padding alone have no largest value.
        if w.padding[0][0] >= w.kernel[0] {
            continue;
        }
        let x = input(&[2, 3, 8, 11], 5);
        let expected = w.reduce(&x, |inside, _| {
            inside.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        });
        check(&single(op, &[], &[&[3, 8, 11]]), &[x], &expected);
    }
}

#[test]
fn average_pools_equal_the_windows_written_out() {
    for w in cases() {
        for count_include_pad in [true, false] {
            // Windows of padding alone have no mean then.
            if !count_include_pad && w.padding[0][0] >= w.kernel[0] {
                continue;
            }
            let op = AvgPool {
                kernel: w.kernel.to_vec(),
                stride: w.stride.to_vec(),
                padding: w.padding.to_vec(),
                ceil: w.ceil,
                count_include_pad,
            };
            let x = input(&[2, 3, 8, 11], 5);
            let expected = w.reduce(&x, |inside, padded| {
                let count = if count_include_pad {
                    padded
                } else {
                    inside.len()
                };
                inside.iter().sum::<f64>() / count as f64
            });
            check(&single(op, &[], &[&[3, 8, 11]]), &[x], &expected);
        }
    }
}

#[test]
fn adaptive_pools_equal_the_windows_written_out() {
    let x = input(&[2, 3, 7, 10], 5);
    let xs = values(&x);
    let reduce = |fold: &dyn Fn(&[f64]) -> f64| {
        let mut y = Vec::new();
        for plane in xs.chunks(70) {
            for (row, column) in (0..3).flat_map(|r| (0..4).map(move |c| (r, c))) {
                let (top, bottom) = (row * 7 / 3, ((row + 1) * 7usize).div_ceil(3));
                let (left, right) = (column * 10 / 4, ((column + 1) * 10usize).div_ceil(4));
                let window: Vec<f64> = (top..bottom)
                    .flat_map(|r| plane[r * 10 + left..r * 10 + right].to_vec())
                    .collect();
                y.push(fold(&window));
            }
        }
        tensor(&y, &[2, 3, 3, 4])
    };
    let mean = reduce(&|w| w.iter().sum::<f64>() / w.len() as f64);
    let max = reduce(&|w| w.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    let output = vec![3, 4];
    check(
        &single(
            AdaptiveAvgPool {
                output: output.clone(),
            },
            &[],
            &[&[3, 7, 10]],
        ),
        &[x.shallow_clone()],
        &mean,
    );
    check(
        &single(AdaptiveMaxPool { output }, &[], &[&[3, 7, 10]]),
        &[x],
        &max,
    );
}

#[test]
fn one_dimensional_pools_are_two_dimensional_ones_of_height_one() {
    let w = Windows {
        kernel: [1, 3],
        stride: [1, 2],
        padding: [[0, 0], [1, 0]],
        dilation: [1, 1],
        ceil: true,
    };
    let x = input(&[2, 3, 8], 5);
    let high = x.unsqueeze(2);
    let max = w.reduce(&high, |v, _| {
        v.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    });
    let mean = w.reduce(&high, |v, padded| v.iter().sum::<f64>() / padded as f64);
    let op = MaxPool {
        kernel: vec![3],
        stride: vec![2],
        padding: vec![[1, 0]],
        dilation: vec![1],
        ceil: true,
    };
    check(
        &single(op, &[], &[&[3, 8]]),
        &[x.shallow_clone()],
        &max.squeeze_dim(2),
    );
    let op = AvgPool {
        kernel: vec![3],
        stride: vec![2],
        padding: vec![[1, 0]],
        ceil: true,
        count_include_pad: true,
    };
    check(&single(op, &[], &[&[3, 8]]), &[x], &mean.squeeze_dim(2));
}
