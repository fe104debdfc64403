//! Decompositions of layer weights: arrays in, factors and a certified error out.

pub mod control;
pub mod error;
pub mod rank;
pub mod scalar;
pub mod spectrum;
pub mod svd;
pub mod threads;

pub mod cp;

mod blas;
mod check;
mod dense;
mod scale;
#[cfg(test)]
mod testing;

pub use control::{Control, Progress};
pub use error::{DecomposeError, Position, Result};
pub use rank::{Rank, Tolerance, Truncation};
pub use scalar::Scalar;
pub use spectrum::{Spectrum, spectrum};
pub use svd::{Svd, SvdMethod, SvdOptions, svd};
pub use threads::Threads;
