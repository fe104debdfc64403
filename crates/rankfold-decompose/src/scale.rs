//! Bringing arrays of extreme scale into a range where squares neither overflow nor vanish.

use ndarray::{ArrayView, CowArray, Dimension};

use crate::check;
use crate::error::Result;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// Root mean squares within this of 1 (or its inverse) need no scaling.
const MODERATE: f64 = 1e12;

/// An array divided by a power of two, or the array itself.
pub(crate) struct Scaled<'a, T, D: Dimension> {
    array: CowArray<'a, T, D>,
    unit: f64,
    norm_sq: f64,
}

impl<T: Scalar, D: Dimension> Scaled<'_, T, D> {
    /// The scaled array.
    pub(crate) fn view(&self) -> ArrayView<'_, T, D> {
        self.array.view()
    }

    /// What the original was divided by: a power of two, 1 where it was not scaled.
    pub(crate) fn unit(&self) -> f64 {
        self.unit
    }

    /// The squared norm of the scaled array.
    pub(crate) fn norm_sq(&self) -> f64 {
        self.norm_sq
    }
}

/// [`moderate`], after the checks of [`check::finite`]; a finite norm is proof enough for them.
pub(crate) fn checked<'a, T: Scalar, D: Dimension>(
    name: &'static str,
    a: ArrayView<'a, T, D>,
    threads: Threads,
) -> Result<Scaled<'a, T, D>> {
    let norm_sq = check::norm_sq_on(&a, threads);
    if a.is_empty() || !norm_sq.is_finite() {
        check::finite(name, &a)?;
    }
    Ok(with_norm(a, norm_sq))
}

/// `a` scaled by a power of two where its scale is extreme; no copy otherwise.
///
/// Exact, except where elements are so much smaller than the largest that they vanish beside it.
pub(crate) fn moderate<T: Scalar, D: Dimension>(a: ArrayView<'_, T, D>) -> Scaled<'_, T, D> {
    let norm_sq = check::norm_sq(&a);
    with_norm(a, norm_sq)
}

fn with_norm<T: Scalar, D: Dimension>(a: ArrayView<'_, T, D>, norm_sq: f64) -> Scaled<'_, T, D> {
    let rms = (norm_sq / a.len() as f64).sqrt();
    if (1.0 / MODERATE..MODERATE).contains(&rms) {
        return Scaled {
            array: a.into(),
            unit: 1.0,
            norm_sq,
        };
    }
    let largest = a.iter().fold(0.0f64, |max, x| max.max(x.as_f64().abs()));
    if largest == 0.0 {
        return Scaled {
            array: a.into(),
            unit: 1.0,
            norm_sq: 0.0,
        };
    }
    // Kept a power of two from the ends, so that the unit and its inverse are both normal numbers.
    let unit = largest.log2().floor().clamp(-1000.0, 1000.0).exp2();
    let array = a.mapv(|x| T::from_f64(x.as_f64() / unit));
    let norm_sq = check::norm_sq(&array);
    Scaled {
        array: array.into(),
        unit,
        norm_sq,
    }
}

/// ‖A‖, which neither overflows nor vanishes before the norm itself does.
pub(crate) fn norm<T: Scalar, D: Dimension>(a: ArrayView<'_, T, D>) -> f64 {
    let scaled = moderate(a);
    scaled.norm_sq().sqrt() * scaled.unit()
}
