//! What the integration tests share: arrays, and checks written from the definitions.

#![allow(dead_code, unreachable_pub)]

use ndarray::{Array, Array2, ArrayBase, ArrayView2, Data, Dimension, ShapeBuilder};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rankfold_decompose::Scalar;

/// A Gaussian array.
pub fn gaussian<T: Scalar, D: Dimension, Sh: ShapeBuilder<Dim = D>>(
    shape: Sh,
    seed: u64,
) -> Array<T, D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array::from_shape_simple_fn(shape, || {
        let x: f64 = StandardNormal.sample(&mut rng);
        T::from_f64(x)
    })
}

/// A matrix of exact rank `rank` (up to rounding), plus `noise` times a Gaussian one.
pub fn planted<T: Scalar>(
    rows: usize,
    cols: usize,
    rank: usize,
    noise: f64,
    seed: u64,
) -> Array2<T> {
    let left = gaussian::<f64, _, _>((rows, rank), seed);
    let right = gaussian::<f64, _, _>((rank, cols), seed + 1);
    let rest = gaussian::<f64, _, _>((rows, cols), seed + 2);
    (left.dot(&right) / (rank as f64).sqrt() + rest * noise).mapv(T::from_f64)
}

/// A matrix whose spectrum decays slowly, like those of trained layers: (Gaussian, column j scaled by
/// j^-0.6) × Gaussian / √n.
pub fn decaying<T: Scalar>(rows: usize, cols: usize, seed: u64) -> Array2<T> {
    let mut left = gaussian::<f64, _, _>((rows, cols), seed);
    for (j, mut column) in left.columns_mut().into_iter().enumerate() {
        column *= ((j + 1) as f64).powf(-0.6);
    }
    let right = gaussian::<f64, _, _>((cols, cols), seed + 1);
    (left.dot(&right) / (cols as f64).sqrt()).mapv(T::from_f64)
}

/// `a` stored column by column.
pub fn column_major<T: Scalar>(a: &Array2<T>) -> Array2<T> {
    a.t().as_standard_layout().into_owned().reversed_axes()
}

/// ‖A‖ in f64.
pub fn norm<T: Scalar, S: Data<Elem = T>, D: Dimension>(a: &ArrayBase<S, D>) -> f64 {
    let largest = a.iter().fold(0.0f64, |max, x| max.max(x.as_f64().abs()));
    if largest == 0.0 {
        return 0.0;
    }
    largest
        * a.iter()
            .map(|x| (x.as_f64() / largest).powi(2))
            .sum::<f64>()
            .sqrt()
}

/// ‖A − B‖ / ‖A‖ in f64; 0 where both are zero.
pub fn distance<T: Scalar, D: Dimension>(a: &Array<T, D>, b: &Array<T, D>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let size = norm(a);
    if size == 0.0 {
        return norm(b);
    }
    norm(&(a.mapv(|x| x.as_f64() / size) - b.mapv(|x| x.as_f64() / size)))
}

/// The largest |entry| of QᵀQ − I.
pub fn non_orthonormality<T: Scalar>(q: ArrayView2<'_, T>) -> f64 {
    let q = q.mapv(T::as_f64);
    let mut gram = q.t().dot(&q);
    gram.diag_mut().map_inplace(|x| *x -= 1.0);
    gram.iter().fold(0.0, |max, x| max.max(x.abs()))
}

/// The valid convolution of an image [S, H, W] with a kernel [T, S/g, Dh, Dw], by its definition.
pub fn conv2d(
    image: &ndarray::Array3<f64>,
    kernel: &ndarray::Array4<f64>,
    groups: usize,
) -> ndarray::Array3<f64> {
    let (outputs, inputs, height, width) = kernel.dim();
    let (_, rows, cols) = image.dim();
    let step = outputs / groups;
    ndarray::Array3::from_shape_fn(
        (outputs, rows - height + 1, cols - width + 1),
        |(t, y, x)| {
            let from = t / step * inputs;
            let mut sum = 0.0;
            for s in 0..inputs {
                for i in 0..height {
                    for j in 0..width {
                        sum += kernel[[t, s, i, j]] * image[[from + s, y + i, x + j]];
                    }
                }
            }
            sum
        },
    )
}
