//! Data-aware weighting: the second moments of a layer's inputs as the metric of its error.
//!
//! A layer W (T×n) answers an input patch x ∈ ℝⁿ with W·x. An approximation Ŵ that leaves Δ = W − Ŵ
//! errs by E‖Δ·x‖² = tr(Δ·C·Δᵀ), C = E[x·xᵀ]. Plain forms are the case C = I.

mod kronecker;

use ndarray::{Array2, ArrayView2, ArrayView4, Axis};

pub(crate) use kronecker::KroneckerMetric;

use crate::blas;
use crate::check;
use crate::dense;
use crate::error::{DecomposeError, Result};
use crate::scalar::Scalar;
use crate::threads::Threads;

/// Second moments C = E[x·xᵀ] of the input patches of a layer, one matrix for each group.
///
/// A patch is flattened as [channel, row, column], like the weights. Centred moments belong to a
/// layer whose mean response is folded into its bias, raw ones to a layer that keeps its bias.
/// Rank-deficient, zero and one-sample moments are all right: [`ridge`](Self::with_ridge) times the
/// mean eigenvalue is added wherever an inverse is needed.
#[derive(Debug, Clone, PartialEq)]
pub struct InputCovariance {
    groups: Vec<Array2<f64>>,
    ridge: f64,
}

impl InputCovariance {
    /// The moments of an ungrouped layer.
    ///
    /// Fails where the matrix is empty, not square, or not finite. It is taken to be symmetric.
    pub fn new(moments: Array2<f64>) -> Result<Self> {
        Self::grouped(vec![moments])
    }

    /// The moments of a grouped layer, one matrix for each group's own channels.
    pub fn grouped(moments: Vec<Array2<f64>>) -> Result<Self> {
        let Some(size) = moments.first().map(|first| first.nrows()) else {
            return Err(DecomposeError::Empty {
                array: "input covariance",
                shape: vec![0],
            });
        };
        for matrix in &moments {
            check::finite("input covariance", matrix)?;
            check::shape("input covariance", matrix, &[size, size])?;
        }
        Ok(Self {
            groups: moments,
            ridge: 1e-3,
        })
    }

    /// These moments with another ridge, in units of the mean eigenvalue; the default is 1e-3.
    ///
    /// Fails where it is negative or not finite.
    pub fn with_ridge(self, ridge: f64) -> Result<Self> {
        if ridge.is_finite() && ridge >= 0.0 {
            Ok(Self { ridge, ..self })
        } else {
            Err(DecomposeError::InvalidOption {
                option: "the ridge",
                expected: "finite and at least 0",
                got: ridge,
            })
        }
    }

    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The length of a patch: input channels of a group × height × width.
    pub(crate) fn patch_len(&self) -> usize {
        self.groups[0].nrows()
    }

    /// The moments of one group, as given.
    pub fn moments(&self, group: usize) -> ArrayView2<'_, f64> {
        self.groups[group].view()
    }

    /// The ridge to add to the diagonal of a matrix with this trace and size; 1 for a zero matrix,
    /// which makes every weighted form fall back to its plain one.
    pub(crate) fn ridge_for(&self, trace: f64, size: usize) -> f64 {
        let mean = trace / size as f64;
        if mean > 0.0 { self.ridge * mean } else { 1.0 }
    }

    /// Fails unless there is one matrix of `patch` × `patch` for each of `groups` groups.
    pub(crate) fn expect(&self, groups: usize, patch: usize) -> Result<()> {
        if self.groups() == groups && self.patch_len() == patch {
            return Ok(());
        }
        Err(DecomposeError::ShapeMismatch {
            array: "input covariance",
            expected: vec![groups, patch, patch],
            got: vec![self.groups(), self.patch_len(), self.patch_len()],
        })
    }

    /// The relative response error of `approximation` for `kernel`, both [T, S/groups, Dh, Dw]:
    /// √(tr(Δ·C·Δᵀ) / tr(W·C·Wᵀ)) with Δ = W − Ŵ, summed over groups; 0 where the response is zero.
    pub fn response_error<T: Scalar>(
        &self,
        kernel: ArrayView4<'_, T>,
        approximation: ArrayView4<'_, T>,
        threads: Threads,
    ) -> Result<f64> {
        let (outputs, inputs, height, width) = kernel.dim();
        check::shape("approximation", &approximation, kernel.shape())?;
        self.expect(self.groups(), inputs * height * width)?;
        if outputs % self.groups() != 0 {
            return Err(DecomposeError::GroupsNotDivisible {
                groups: self.groups(),
                channels: outputs,
            });
        }
        let (mut missed, mut whole) = (0.0, 0.0);
        let step = outputs / self.groups();
        let pairs = kernel
            .axis_chunks_iter(Axis(0), step)
            .zip(approximation.axis_chunks_iter(Axis(0), step));
        for (group, (kernel, approximation)) in pairs.enumerate() {
            let kernel = flatten(kernel);
            let difference = &kernel - &flatten(approximation);
            missed += self.energy(group, difference.view(), threads);
            whole += self.energy(group, kernel.view(), threads);
        }
        Ok(if whole > 0.0 {
            (missed.max(0.0) / whole).sqrt()
        } else {
            0.0
        })
    }

    /// tr(W·C·Wᵀ) for the rows W of one group.
    pub(crate) fn energy(&self, group: usize, w: ArrayView2<'_, f64>, threads: Threads) -> f64 {
        let answered = blas::dot(w, self.groups[group].view(), threads);
        answered.iter().zip(w).map(|(x, y)| x * y).sum()
    }

    /// W·C·Wᵀ for one group, and W·(C + ridge)·Wᵀ.
    pub(crate) fn output_moments(
        &self,
        group: usize,
        w: ArrayView2<'_, f64>,
        threads: Threads,
    ) -> (Array2<f64>, Array2<f64>) {
        let moments = &self.groups[group];
        let answered = blas::dot(w, moments.view(), threads);
        let exact = blas::dot(answered.view(), w.t(), threads);
        let ridge = self.ridge_for(moments.diag().sum(), moments.nrows());
        let mut ridged = blas::gram(w.t(), threads);
        ridged.zip_mut_with(&exact, |own, &x| *own = *own * ridge + x);
        (exact, ridged)
    }
}

/// A kernel [T, S, Dh, Dw] as a T×S·Dh·Dw matrix in f64.
fn flatten<T: Scalar>(kernel: ArrayView4<'_, T>) -> Array2<f64> {
    let outputs = kernel.dim().0;
    let patch = kernel.len() / outputs;
    let values = kernel.iter().map(|x| x.as_f64()).collect();
    Array2::from_shape_vec((outputs, patch), values).expect("invariant: every element is kept")
}

/// A symmetric square root of a positive semidefinite matrix with its inverse.
#[derive(Debug, Clone)]
pub(crate) struct SquareRoot {
    pub(crate) root: Array2<f64>,
    pub(crate) inverse: Array2<f64>,
}

impl SquareRoot {
    /// (M + ridge·I)^½ and its inverse, by eigendecomposition; negative eigenvalues of `m`, which
    /// are rounding, count as zero.
    pub(crate) fn new(m: ArrayView2<'_, f64>, ridge: f64) -> Result<Self> {
        let (values, vectors) = dense::eigh(m)?;
        // Without a ridge, directions that never occur are given no weight either way.
        let floor = f64::EPSILON * values.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        let root = values.mapv(|x| (x.max(0.0) + ridge).sqrt());
        let inverse = root.mapv(|x| if x * x > floor { x.recip() } else { 0.0 });
        let between = |d: &ndarray::Array1<f64>| (&vectors * d).dot(&vectors.t());
        Ok(Self {
            root: between(&root),
            inverse: between(&inverse),
        })
    }
}
