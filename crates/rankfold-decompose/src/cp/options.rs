//! What a CP decomposition is asked for.

use crate::error::{DecomposeError, Result};
use crate::threads::Threads;

/// Which axes of a T×S×Dh×Dw kernel are factors of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CpForm {
    /// (S·Dh·Dw) and T: a Dh×Dw convolution S→R, then a 1×1 convolution R→T. A matrix, so the
    /// truncated SVD is its best decomposition. For layers of few input channels.
    TwoWay,
    /// S, Dh·Dw and T: 1×1, depthwise Dh×Dw, 1×1.
    #[default]
    ThreeWay,
    /// S, Dh, Dw and T: 1×1, depthwise Dh×1, depthwise 1×Dw, 1×1.
    FourWay,
}

impl CpForm {
    /// The form's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoWay => "two-way CP",
            Self::ThreeWay => "three-way CP",
            Self::FourWay => "four-way CP",
        }
    }
}

/// Where the alternating least squares start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Start {
    /// The better of [`Slices`](Self::Slices) and [`Hosvd`](Self::Hosvd) after a few sweeps of each.
    #[default]
    Best,
    /// SVDs of the slices, rotated onto the eigenvectors of the tap Gram matrix.
    Slices,
    /// Leading eigenvectors of the mode Gram matrices.
    Hosvd,
    /// Gaussian factors.
    Random,
}

/// Parameters of the ridge-regularised alternating least squares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Als {
    /// ε of the normal matrix (BᵀB ∘ CᵀC) + ε·tr/R·I. At 0 the terms may grow without bound while
    /// they cancel each other.
    pub ridge: f64,
    /// The most sweeps.
    pub max_sweeps: usize,
    /// Stop once ten sweeps together lower the error by less than this, relatively.
    pub tolerance: f64,
    /// Where to start.
    pub start: Start,
}

impl Default for Als {
    fn default() -> Self {
        Self {
            ridge: 1e-3,
            max_sweeps: 200,
            tolerance: 1e-5,
            start: Start::Best,
        }
    }
}

/// The algorithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CpMethod {
    /// Ridge-regularised alternating least squares.
    Als(Als),
}

impl Default for CpMethod {
    fn default() -> Self {
        Self::Als(Als::default())
    }
}

/// Everything about a CP decomposition but the kernel and the rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpOptions {
    /// Which axes are factors.
    pub form: CpForm,
    /// The algorithm; the two-way form is always a truncated SVD.
    pub method: CpMethod,
    /// Groups of the convolution; each gets rank R/groups.
    pub groups: usize,
    /// Seed of every random choice.
    pub seed: u64,
    /// How many cores.
    pub threads: Threads,
}

impl Default for CpOptions {
    fn default() -> Self {
        Self {
            form: CpForm::default(),
            method: CpMethod::default(),
            groups: 1,
            seed: 0,
            threads: Threads::default(),
        }
    }
}

impl CpOptions {
    /// Fails on an option outside its range.
    pub(crate) fn check(&self) -> Result<()> {
        match self.method {
            CpMethod::Als(als) => als.check(),
        }
    }
}

impl Als {
    fn check(&self) -> Result<()> {
        let range = |option, value: f64, expected, good: bool| match good {
            true => Ok(()),
            false => Err(DecomposeError::InvalidOption {
                option,
                expected,
                got: value,
            }),
        };
        let ridge = self.ridge;
        range(
            "the ridge",
            ridge,
            "finite and at least 0",
            ridge.is_finite() && ridge >= 0.0,
        )?;
        let tolerance = self.tolerance;
        range("the tolerance", tolerance, "at least 0", tolerance >= 0.0)?;
        range(
            "the sweeps",
            self.max_sweeps as f64,
            "at least 1",
            self.max_sweeps >= 1,
        )
    }
}
