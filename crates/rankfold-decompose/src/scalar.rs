//! The element types: f32 and f64.

use std::fmt::{Debug, Display};

use ndarray::{LinalgScalar, ScalarOperand};

/// An element type that every decomposition accepts: `f32` or `f64`.
pub trait Scalar:
    private::Sealed
    + num_traits::Float
    + num_traits::NumAssign
    + LinalgScalar
    + ScalarOperand
    + faer_traits::RealField
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

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
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
