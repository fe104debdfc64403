//! The element types: f32 and f64.

use std::fmt::{Debug, Display};

use ndarray::{LinalgScalar, ScalarOperand};

/// An element type that every decomposition accepts: `f32` or `f64`.
pub trait Scalar:
    engine::Engine
    + num_traits::Float
    + num_traits::NumAssign
    + LinalgScalar
    + ScalarOperand
    + Debug
    + Display
    + Default
    + Send
    + Sync
    + 'static
{
    /// The type's name, for messages.
    const NAME: &'static str;

    /// The distance from 1 to the next number.
    const EPS: f64;

    /// The value as an f64; exact.
    fn as_f64(self) -> f64;

    /// The nearest value to an f64.
    fn from_f64(value: f64) -> Self;
}

/// What the engine does with an element type. Implemented once for each type, so that the kernels are
/// compiled here, with this crate's optimisation, and not again in every crate that calls them.
pub(crate) mod engine {
    use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2};

    use crate::error::Result;
    use crate::{blas, dense};

    /// Left singular vectors, singular values and right singular vectors transposed.
    pub(crate) type Triples<T> = (Array2<T>, Array1<T>, Array2<T>);

    pub trait Engine: Sized {
        fn product(
            alpha: Self,
            a: ArrayView2<'_, Self>,
            b: ArrayView2<'_, Self>,
            accumulate: bool,
            c: ArrayViewMut2<'_, Self>,
        );
        fn lower_product(
            a: ArrayView2<'_, Self>,
            b: ArrayView2<'_, Self>,
            c: ArrayViewMut2<'_, Self>,
        );
        fn eigh(a: ArrayView2<'_, Self>) -> Result<(Array1<Self>, Array2<Self>)>;
        fn eigenvalues(a: ArrayView2<'_, Self>) -> Result<Array1<Self>>;
        fn thin_svd(a: ArrayView2<'_, Self>) -> Result<Triples<Self>>;
        fn singular_values(a: ArrayView2<'_, Self>) -> Result<Array1<Self>>;
        fn orthonormal_basis(a: ArrayView2<'_, Self>) -> Array2<Self>;
        fn cholesky(a: ArrayView2<'_, Self>) -> Option<Array2<Self>>;
        fn cholesky_solve(lower: ArrayView2<'_, Self>, x: ArrayViewMut2<'_, Self>);
    }

    macro_rules! engine {
        ($scalar:ty) => {
            impl Engine for $scalar {
                fn product(
                    alpha: Self,
                    a: ArrayView2<'_, Self>,
                    b: ArrayView2<'_, Self>,
                    accumulate: bool,
                    c: ArrayViewMut2<'_, Self>,
                ) {
                    blas::faer_product(alpha, a, b, accumulate, c);
                }

                fn lower_product(
                    a: ArrayView2<'_, Self>,
                    b: ArrayView2<'_, Self>,
                    c: ArrayViewMut2<'_, Self>,
                ) {
                    blas::faer_lower_product(a, b, c);
                }

                fn eigh(a: ArrayView2<'_, Self>) -> Result<(Array1<Self>, Array2<Self>)> {
                    dense::faer_eigh(a)
                }

                fn eigenvalues(a: ArrayView2<'_, Self>) -> Result<Array1<Self>> {
                    dense::faer_eigenvalues(a)
                }

                fn thin_svd(a: ArrayView2<'_, Self>) -> Result<Triples<Self>> {
                    dense::faer_thin_svd(a)
                }

                fn singular_values(a: ArrayView2<'_, Self>) -> Result<Array1<Self>> {
                    dense::faer_singular_values(a)
                }

                fn orthonormal_basis(a: ArrayView2<'_, Self>) -> Array2<Self> {
                    dense::faer_orthonormal_basis(a)
                }

                fn cholesky(a: ArrayView2<'_, Self>) -> Option<Array2<Self>> {
                    dense::faer_cholesky(a)
                }

                fn cholesky_solve(lower: ArrayView2<'_, Self>, x: ArrayViewMut2<'_, Self>) {
                    dense::faer_cholesky_solve(lower, x);
                }
            }
        };
    }

    engine!(f32);
    engine!(f64);
}

impl Scalar for f32 {
    const NAME: &'static str = "f32";
    const EPS: f64 = f32::EPSILON as f64;

    #[inline(always)]
    fn as_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Scalar for f64 {
    const NAME: &'static str = "f64";
    const EPS: f64 = f64::EPSILON;

    #[inline(always)]
    fn as_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }
}
