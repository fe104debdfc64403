//! CP factors as convolution weights.

use ndarray::{Array2, Array4, ArrayView2, ArrayView4, Axis, s};

use crate::blas::dot;
use crate::cp::factors::{Factors, Spatial};
use crate::scalar::Scalar;
use crate::threads::Threads;

/// The weights of the convolutions that replace one, in the order they run.
///
/// With g groups the channels in and out of every group stay together: the first R/g of the R
/// middle channels belong to the first group, and so on.
#[derive(Debug, Clone, PartialEq)]
pub struct CpWeights<T> {
    /// [R, S/g, 1, 1] in g groups; in the two-way form [R, S/g, Dh, Dw].
    pub input: Array4<T>,
    /// Depthwise, in R groups: none in the two-way form, [R, 1, Dh, Dw] in the three-way form,
    /// [R, 1, Dh, 1] then [R, 1, 1, Dw] in the four-way form.
    pub spatial: Vec<Array4<T>>,
    /// [T, R/g, 1, 1] in g groups.
    pub output: Array4<T>,
    /// The number of groups g of the first and of the last convolution.
    pub groups: usize,
}

impl<T: Scalar> CpWeights<T> {
    /// The weights of a grouped convolution from those of its groups.
    pub(crate) fn assemble(parts: Vec<CpWeights<T>>) -> Self {
        let groups = parts.len();
        let stack = |pick: &dyn Fn(&CpWeights<T>) -> ArrayView4<'_, T>| {
            let views: Vec<_> = parts.iter().map(pick).collect();
            ndarray::concatenate(Axis(0), &views).expect("invariant: all groups have one shape")
        };
        let depthwise = parts[0].spatial.len();
        Self {
            input: stack(&|p| p.input.view()),
            spatial: (0..depthwise)
                .map(|i| stack(&|p| p.spatial[i].view()))
                .collect(),
            output: stack(&|p| p.output.view()),
            groups,
        }
    }

    /// The weights of one group from its factors.
    pub(crate) fn from_factors(factors: &Factors, taps: (usize, usize)) -> Self {
        let rank = factors.rank();
        let spatial = match &factors.spatial {
            Spatial::Joint(c) => vec![to_four(c.t(), (rank, 1, taps.0, taps.1))],
            Spatial::Split(h, v) => vec![
                to_four(h.t(), (rank, 1, taps.0, 1)),
                to_four(v.t(), (rank, 1, 1, taps.1)),
            ],
        };
        Self {
            input: to_four(factors.b.t(), (rank, factors.b.nrows(), 1, 1)),
            spatial,
            output: to_four(factors.a.view(), (factors.a.nrows(), rank, 1, 1)),
            groups: 1,
        }
    }

    /// The weights of one group of a two-way form W ≈ left·right: `left` is T×R, `right` R×S·K.
    pub(crate) fn from_matrices(
        left: ArrayView2<'_, f64>,
        right: ArrayView2<'_, f64>,
        inputs: usize,
        taps: (usize, usize),
    ) -> Self {
        let rank = left.ncols();
        Self {
            input: to_four(right, (rank, inputs, taps.0, taps.1)),
            spatial: Vec::new(),
            output: to_four(left, (left.nrows(), rank, 1, 1)),
            groups: 1,
        }
    }

    /// The factors of one group of a three- or four-way form.
    pub(crate) fn factors(&self, group: usize) -> Factors {
        let (rank, outputs) = (
            self.rank() / self.groups,
            self.output.len_of(Axis(0)) / self.groups,
        );
        let ranks = group * rank..(group + 1) * rank;
        let rows = group * outputs..(group + 1) * outputs;
        let columns = |layer: &Array4<T>| {
            let part = layer.slice(s![ranks.clone(), .., .., ..]);
            let values: Vec<f64> = part.iter().map(|x| x.as_f64()).collect();
            let shape = (rank, values.len() / rank);
            let part = Array2::from_shape_vec(shape, values);
            part.expect("invariant: every term has as many elements")
                .reversed_axes()
        };
        let spatial = match &self.spatial[..] {
            [high, wide] => Spatial::Split(columns(high), columns(wide)),
            joint => Spatial::Joint(
                joint
                    .first()
                    .map_or_else(|| Array2::ones((1, rank)), columns),
            ),
        };
        let output: ArrayView2<'_, T> = self.output.slice(s![rows, .., 0, 0]);
        Factors {
            a: output.mapv(Scalar::as_f64),
            b: columns(&self.input),
            spatial,
        }
    }

    /// The rank R.
    pub fn rank(&self) -> usize {
        self.input.len_of(Axis(0))
    }

    /// The number of weights.
    pub fn parameters(&self) -> usize {
        self.input.len() + self.spatial.iter().map(Array4::len).sum::<usize>() + self.output.len()
    }

    /// The kernel [T, S/g, Dh, Dw] that the convolutions amount to.
    pub fn reconstruct(&self) -> Array4<T> {
        let (rank, inputs, mut height, mut width) = self.input.dim();
        for layer in &self.spatial {
            height = height.max(layer.len_of(Axis(2)));
            width = width.max(layer.len_of(Axis(3)));
        }
        let outputs = self.output.len_of(Axis(0));
        let (per_group, ranks) = (outputs / self.groups, rank / self.groups);
        let mut kernel = Array4::zeros((outputs, inputs, height, width));
        for i in 0..height {
            for j in 0..width {
                let tap = |layer: &Array4<T>, r: usize| {
                    let (i, j) = (i % layer.len_of(Axis(2)), j % layer.len_of(Axis(3)));
                    layer[[r, 0, i, j]].as_f64()
                };
                for g in 0..self.groups {
                    let middle = Array2::from_shape_fn((ranks, inputs), |(r, s)| {
                        let r = g * ranks + r;
                        let first = match self.spatial.is_empty() {
                            true => self.input[[r, s, i, j]].as_f64(),
                            false => self.input[[r, s, 0, 0]].as_f64(),
                        };
                        self.spatial
                            .iter()
                            .fold(first, |x, layer| x * tap(layer, r))
                    });
                    let rows = g * per_group..(g + 1) * per_group;
                    let last: ArrayView2<'_, T> = self.output.slice(s![rows.clone(), .., 0, 0]);
                    let product = dot(last.mapv(T::as_f64).view(), middle.view(), Threads::Serial);
                    let product = product.mapv(T::from_f64);
                    kernel.slice_mut(s![rows, .., i, j]).assign(&product);
                }
            }
        }
        kernel
    }
}

fn to_four<T: Scalar>(
    matrix: ArrayView2<'_, f64>,
    shape: (usize, usize, usize, usize),
) -> Array4<T> {
    let values: Vec<T> = matrix.iter().map(|&x| T::from_f64(x)).collect();
    Array4::from_shape_vec(shape, values).expect("invariant: a factor has its layer's elements")
}
