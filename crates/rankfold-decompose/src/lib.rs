//! Decompositions of layer weights: arrays in, factors and a certified error out.

pub mod control;
pub mod conv;
pub mod error;
pub mod evbmf;
pub mod rank;
pub mod scalar;
pub mod spectrum;
pub mod svd;
pub mod threads;
pub mod weighted;

pub mod cp;

mod blas;
mod check;
mod dense;
mod scale;
#[cfg(test)]
mod testing;

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
pub use weighted::{InputCovariance, KroneckerMetric};
