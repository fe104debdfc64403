//! What the CP tests share: kernels and the error measured by its definition.

#![allow(dead_code, reason = "each test binary uses its share")]

use ndarray::{Array2, Array4, ArrayView4};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rankfold_decompose::Scalar;
use rankfold_decompose::cp::{CpForm, CpOptions, CpWeights};

pub(crate) const FORMS: [CpForm; 3] = [CpForm::TwoWay, CpForm::ThreeWay, CpForm::FourWay];

pub(crate) fn options(form: CpForm) -> CpOptions {
    CpOptions {
        form,
        ..CpOptions::default()
    }
}

pub(crate) fn gaussian<T: Scalar>(shape: [usize; 4], seed: u64) -> Array4<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array4::from_shape_simple_fn(shape, || {
        let x: f64 = StandardNormal.sample(&mut rng);
        T::from_f64(x)
    })
}

/// A kernel of exactly `rank` terms, separable in height and width where `split`.
pub(crate) fn planted<T: Scalar>(
    shape: [usize; 4],
    rank: usize,
    split: bool,
    seed: u64,
) -> Array4<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut factor = |rows: usize| {
        Array2::<f64>::from_shape_simple_fn((rows, rank), || StandardNormal.sample(&mut rng))
    };
    let [t, s, h, w] = shape;
    let (a, b, joint, high, wide) = (factor(t), factor(s), factor(h * w), factor(h), factor(w));
    Array4::from_shape_fn(shape, |(t, s, i, j)| {
        let term = |r: usize| {
            let c = if split {
                high[[i, r]] * wide[[j, r]]
            } else {
                joint[[i * w + j, r]]
            };
            a[[t, r]] * b[[s, r]] * c
        };
        T::from_f64((0..rank).map(term).sum())
    })
}

/// ‖W − Ŵ‖/‖W‖ with Ŵ multiplied out.
pub(crate) fn measured<T: Scalar>(kernel: ArrayView4<'_, T>, weights: &CpWeights<T>) -> f64 {
    let model = weights.reconstruct();
    assert_eq!(model.shape(), kernel.shape());
    let (mut rest, mut whole) = (0.0, 0.0);
    for (w, m) in kernel.iter().zip(&model) {
        rest += (w.as_f64() - m.as_f64()).powi(2);
        whole += w.as_f64().powi(2);
    }
    if whole == 0.0 {
        0.0
    } else {
        (rest / whole).sqrt()
    }
}

/// Σλ²/‖W‖² of ungrouped three- or four-way weights, by its definition.
pub(crate) fn energy<T: Scalar>(kernel: ArrayView4<'_, T>, weights: &CpWeights<T>) -> f64 {
    let whole: f64 = kernel.iter().map(|x| x.as_f64().powi(2)).sum();
    let square = |x: T| x.as_f64().powi(2);
    let terms = (0..weights.rank()).map(|r| {
        let input: f64 = weights
            .input
            .index_axis(ndarray::Axis(0), r)
            .iter()
            .map(|&x| square(x))
            .sum();
        let output: f64 = weights
            .output
            .index_axis(ndarray::Axis(1), r)
            .iter()
            .map(|&x| square(x))
            .sum();
        weights
            .spatial
            .iter()
            .fold(input * output, |product, layer| {
                product
                    * layer
                        .index_axis(ndarray::Axis(0), r)
                        .iter()
                        .map(|&x| square(x))
                        .sum::<f64>()
            })
    });
    terms.sum::<f64>() / whole
}
