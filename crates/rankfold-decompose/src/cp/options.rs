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
    /// Stop once five sweeps together lower the error by less than this, relatively.
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

/// How a term of the power method is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PowerMode {
    /// Algorithm 1 of Astrid and Lee, 2018: every vector in turn, exactly the passes asked for, and
    /// deflation by the term's own weight.
    Faithful,
    /// The best b and c for every a together, passes only until the score settles, and all weights
    /// refitted with every term. The restarts go on from term to term: only the best one is used up.
    #[default]
    Joint,
}

/// Parameters of the tensor power method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Power {
    /// N, the passes over the vectors of a term; the most of them in the joint mode.
    pub passes: usize,
    /// Starting points for a term, all carried side by side; the one of largest |score| is taken.
    pub restarts: usize,
    /// How a term is fitted.
    pub mode: PowerMode,
}

impl Default for Power {
    fn default() -> Self {
        Self {
            passes: 10,
            restarts: 4,
            mode: PowerMode::Joint,
        }
    }
}

/// The algorithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CpMethod {
    /// Ridge-regularised alternating least squares.
    Als(Als),
    /// The tensor power method.
    Power(Power),
    /// Alternating least squares from the terms of the power method; the start of [`Als`] is unused.
    PowerThenAls(Power, Als),
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
    /// The most rank-one energy Σλ²/‖W‖² that the three- and four-way forms may have. Where it is
    /// passed, the energy is lowered at the same error as far as that goes, and then at the least
    /// error within the bound.
    pub energy_bound: Option<f64>,
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
            energy_bound: None,
            threads: Threads::default(),
        }
    }
}

impl CpOptions {
    /// Fails on an option outside its range.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(bound) = self.energy_bound {
            let good = bound.is_finite() && bound > 0.0;
            within("the energy bound", bound, "finite and above 0", good)?;
        }
        match self.method {
            CpMethod::Als(als) => als.check(),
            CpMethod::Power(power) => power.check(),
            CpMethod::PowerThenAls(power, als) => power.check().and_then(|()| als.check()),
        }
    }
}

impl Als {
    fn check(&self) -> Result<()> {
        let (ridge, tolerance, sweeps) = (self.ridge, self.tolerance, self.max_sweeps);
        within(
            "the ridge",
            ridge,
            "finite and at least 0",
            ridge.is_finite() && ridge >= 0.0,
        )?;
        within("the tolerance", tolerance, "at least 0", tolerance >= 0.0)?;
        within("the sweeps", sweeps as f64, "at least 1", sweeps >= 1)
    }
}

impl Power {
    fn check(&self) -> Result<()> {
        within(
            "the passes",
            self.passes as f64,
            "at least 1",
            self.passes >= 1,
        )?;
        within(
            "the restarts",
            self.restarts as f64,
            "at least 1",
            self.restarts >= 1,
        )
    }
}

fn within(option: &'static str, got: f64, expected: &'static str, good: bool) -> Result<()> {
    match good {
        true => Ok(()),
        false => Err(DecomposeError::InvalidOption {
            option,
            expected,
            got,
        }),
    }
}
