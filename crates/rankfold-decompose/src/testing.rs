//! What the unit tests share.

use ndarray::Array2;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::scalar::Scalar;

/// A Gaussian array.
pub(crate) fn gaussian<T: Scalar>(shape: (usize, usize), seed: u64) -> Array2<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn(shape, || {
        let x: f64 = StandardNormal.sample(&mut rng);
        T::from_f64(x)
    })
}

/// A·B in f64 by its definition.
pub(crate) fn naive_product<T: Scalar>(a: &Array2<T>, b: &Array2<T>) -> Array2<f64> {
    a.mapv(T::as_f64).dot(&b.mapv(T::as_f64))
}
