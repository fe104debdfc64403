//! Decompositions of layer weights: arrays in, factors and a certified error out.

pub mod control;
pub mod error;
pub mod scalar;
pub mod threads;

pub mod cp;

mod blas;
mod check;
mod dense;
#[cfg(test)]
mod testing;

pub use control::{Control, Progress};
pub use error::{DecomposeError, Position, Result};
pub use scalar::Scalar;
pub use threads::Threads;
