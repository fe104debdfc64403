//! Checks of input arrays, shared by every decomposition.

use ndarray::{ArrayBase, ArrayView, Data, Dimension, RawData};

use crate::error::{DecomposeError, Position, Result};
use crate::scalar::Scalar;
use crate::threads::Threads;

/// Fails if `array` is empty or holds a NaN or an infinity, naming where.
pub(crate) fn finite<T, S, D>(name: &'static str, array: &ArrayBase<S, D>) -> Result<()>
where
    T: Scalar,
    S: Data<Elem = T>,
    D: Dimension,
{
    if array.is_empty() {
        return Err(DecomposeError::Empty {
            array: name,
            shape: array.shape().to_vec(),
        });
    }
    // A sum of x·0 is NaN exactly when some x is not finite, and vectorises where a search does not.
    let clean = match array.as_slice_memory_order() {
        Some(slice) => all_finite(slice),
        None => array.iter().all(|x| x.is_finite()),
    };
    if clean {
        return Ok(());
    }
    match first_non_finite(array.view()) {
        Some((position, value)) => Err(DecomposeError::NonFinite {
            array: name,
            position: Position(position),
            value,
        }),
        None => Ok(()),
    }
}

fn all_finite<T: Scalar>(slice: &[T]) -> bool {
    slice.chunks(4096).all(|chunk| {
        let mut lanes = [T::zero(); 16];
        let (whole, rest) = chunk.as_chunks::<16>();
        for block in whole {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane += x * T::zero();
            }
        }
        lanes.iter().all(|x| x.is_finite()) && rest.iter().all(|x| x.is_finite())
    })
}

fn first_non_finite<T: Scalar, D: Dimension>(
    array: ArrayView<'_, T, D>,
) -> Option<(Vec<usize>, f64)> {
    let shape = array.shape().to_vec();
    let (flat, value) = array
        .iter()
        .enumerate()
        .find(|(_, x)| !x.is_finite())
        .map(|(i, &x)| (i, x.as_f64()))?;
    let mut position = vec![0; shape.len()];
    let mut rest = flat;
    for (index, &extent) in position.iter_mut().zip(&shape).rev() {
        *index = rest % extent;
        rest /= extent;
    }
    Some((position, value))
}

/// Fails if `array` does not have the shape `expected`.
pub(crate) fn shape<S: RawData, D: Dimension>(
    name: &'static str,
    array: &ArrayBase<S, D>,
    expected: &[usize],
) -> Result<()> {
    if array.shape() == expected {
        return Ok(());
    }
    Err(DecomposeError::ShapeMismatch {
        array: name,
        expected: expected.to_vec(),
        got: array.shape().to_vec(),
    })
}

/// ‖A‖² in f64, summed in an order that depends only on shape and layout.
pub(crate) fn norm_sq<T, S, D>(array: &ArrayBase<S, D>) -> f64
where
    T: Scalar,
    S: Data<Elem = T>,
    D: Dimension,
{
    match array.as_slice_memory_order() {
        Some(slice) => slice_norm_sq(slice),
        None => array
            .rows()
            .into_iter()
            .map(|row| row.iter().map(|x| x.as_f64() * x.as_f64()).sum::<f64>())
            .sum(),
    }
}

/// [`norm_sq`] on several threads; the same bits for every thread policy.
pub(crate) fn norm_sq_on<T, S, D>(array: &ArrayBase<S, D>, threads: Threads) -> f64
where
    T: Scalar,
    S: Data<Elem = T>,
    D: Dimension,
{
    match array.as_slice_memory_order() {
        Some(slice) => threads
            .map(slice.chunks(1 << 20).collect(), slice_norm_sq)
            .iter()
            .sum(),
        None => norm_sq(array),
    }
}

fn slice_norm_sq<T: Scalar>(slice: &[T]) -> f64 {
    slice
        .chunks(4096)
        .map(|chunk| {
            let mut lanes = [0.0f64; 16];
            let (whole, rest) = chunk.as_chunks::<16>();
            for block in whole {
                for (lane, x) in lanes.iter_mut().zip(block) {
                    let x = x.as_f64();
                    *lane += x * x;
                }
            }
            lanes.iter().sum::<f64>() + rest.iter().map(|x| x.as_f64() * x.as_f64()).sum::<f64>()
        })
        .sum()
}
