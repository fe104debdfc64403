//! CP decompositions of convolution kernels: W[t, s, k] ≈ Σ_r A[t, r]·B[s, r]·C[k, r].
//!
//! A T×S×Dh×Dw convolution becomes a 1×1 convolution S→R, a depthwise one over R channels and a
//! 1×1 convolution R→T ([`CpForm::ThreeWay`]); the other [`CpForm`]s merge or split the spatial
//! taps differently. [`cp`] decomposes at one rank, [`cp_curve`] at a list of them.

mod als;
mod bound;
mod factors;
mod layout;
mod options;
mod power;
mod refine;
mod run;
mod start;
mod tensor;
mod weighted;

pub use layout::CpWeights;
pub use options::{Als, CpForm, CpMethod, CpOptions, Power, PowerMode, Start};
pub use refine::{Refine, Target, refine};
pub use run::{Cp, cp, cp_curve, max_rank};
pub use weighted::{cp_weighted, cp_weighted_curve};
