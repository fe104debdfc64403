//! Decompositions of layer weights: arrays in, factors and a certified error out.
//!
//! - [`svd()`] truncates by rank or tolerance; [`spectrum()`] gives the error at every rank and
//!   [`evbmf()`] estimates one.
//! - [`conv`] has the forms of a layer with factors in convolution layout: [`channel_svd`],
//!   [`spatial_svd`], [`tucker2`], [`linear_svd`], and the error curve of each; [`cp`] the CP forms.
//! - [`InputCovariance`] makes a form data-aware: its error is then that of the layer's response.
//! - [`Threads`], seeds and tolerances are arguments, and so is a [`Control`] to watch or cancel a run.
//!   The same seed gives the same bits for every number of threads.
//!
//! ```
//! use ndarray::Array2;
//! use rankfold_decompose::{Control, SvdOptions, Truncation, svd};
//!
//! let matrix = Array2::from_shape_fn((60, 40), |(row, column)| 1.0 / (1 + row + column) as f64);
//! let tolerance = Truncation::tolerance(1e-3)?;
//! let factors = svd(matrix.view(), tolerance, &SvdOptions::default(), Control::default())?;
//! assert!(factors.rank() < 8 && factors.relative_error <= 1e-3);
//! # Ok::<(), rankfold_decompose::DecomposeError>(())
//! ```
//!
//! # The engine
//!
//! Products and dense factorisations are faer's, compiled into this crate and run one piece a thread.
//! No BLAS or LAPACK is linked, so in a binary with libtorch, which exports `sgemm_`, `ssyevd_` and
//! `dgesdd_`, each keeps its own whatever the link order. `docs/numerics.md` has the measurements,
//! `tests/engine.rs` the proof.

pub mod conv;
pub mod cp;
pub mod evbmf;
pub mod weighted;

mod blas;
mod check;
mod control;
mod dense;
mod error;
mod rank;
mod scalar;
mod scale;
mod spectrum;
mod svd;
#[cfg(test)]
mod testing;
mod threads;

pub use blas::dot;
pub use control::{Control, Progress};
pub use conv::{
    ChannelFactors, ConvOptions, LinearFactors, SpatialFactors, Tucker2Factors, Tucker2Rank,
    channel_curve, channel_max_rank, channel_svd, linear_curve, linear_svd, spatial_curve,
    spatial_max_rank, spatial_svd, tucker2, tucker2_curve, tucker2_max_rank,
};
pub use error::{DecomposeError, Position, Result};
pub use evbmf::{Evbmf, evbmf, evbmf_from_spectrum};
pub use rank::{Rank, Tolerance, Truncation};
pub use scalar::Scalar;
pub use spectrum::{Spectrum, spectrum};
pub use svd::{Svd, SvdMethod, SvdOptions, svd};
pub use threads::Threads;
pub use weighted::InputCovariance;
