//! Ridge-regularised alternating least squares with extrapolation.

use ndarray::{Array2, Axis, Zip};

use crate::blas::gram;
use crate::control::{Control, Progress};
use crate::cp::factors::{Factors, Spatial, along};
use crate::cp::tensor::{Slices, contract_outputs, contract_taps};
use crate::dense::Cholesky;
use crate::error::Result;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// Sweeps over which the error must have stopped falling.
const WINDOW: usize = 5;
/// Products of fewer multiplications than this gain nothing from more threads.
const POOLED: usize = 1 << 23;
/// The first extrapolation step, its growth after a sweep that helped, its bound, and its shrinking.
const STEP: f64 = 0.5;
const STEP_GROWTH: f64 = 1.15;
const STEP_MAX: f64 = 0.98;
const STEP_SHRINK: f64 = 0.5;

/// An ALS iteration that can be stopped, compared and continued.
#[derive(Debug, Clone)]
pub(crate) struct Iteration {
    current: Factors,
    previous: Option<Factors>,
    step: f64,
    /// The relative error after each sweep; a rejected sweep repeats the last one.
    errors: Vec<f64>,
}

/// What a run may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) ridge: f64,
    pub(crate) sweeps: usize,
    pub(crate) tolerance: f64,
}

impl Iteration {
    pub(crate) fn new(mut start: Factors) -> Self {
        start.balance();
        Self {
            current: start,
            previous: None,
            step: STEP,
            errors: Vec::new(),
        }
    }

    pub(crate) fn sweeps(&self) -> usize {
        self.errors.len()
    }

    /// The relative error of the factors, infinite before the first sweep.
    pub(crate) fn error(&self) -> f64 {
        self.errors.last().copied().unwrap_or(f64::INFINITY)
    }

    pub(crate) fn into_factors(self) -> Factors {
        self.current
    }

    /// True once the error fell by less than `tolerance`, relatively, over the last sweeps.
    fn converged(&self, tolerance: f64) -> bool {
        match self.errors.len().checked_sub(WINDOW + 1) {
            Some(first) => {
                let (before, now) = (self.errors[first], self.error());
                now == 0.0 || before - now < tolerance * before
            }
            None => false,
        }
    }

    /// Sweeps until `limits` say stop.
    pub(crate) fn run<T: Scalar>(
        &mut self,
        w: &Slices<T>,
        limits: Limits,
        threads: Threads,
        control: Control<'_>,
    ) -> Result<()> {
        let threads = match self.current.rank() * w.values().len() < POOLED {
            true => Threads::Serial,
            false => threads,
        };
        let first = self.sweeps();
        while self.sweeps() - first < limits.sweeps && !self.converged(limits.tolerance) {
            self.sweep(w, limits.ridge, threads);
            control.step(Progress {
                stage: "CP alternating least squares",
                step: self.sweeps() - first,
                max_steps: limits.sweeps,
                relative_error: Some(self.error()),
            })?;
        }
        Ok(())
    }

    /// One sweep from the extrapolated point; where it raises the error the point is dropped and
    /// the next sweep starts from the last good one without extrapolation.
    fn sweep<T: Scalar>(&mut self, w: &Slices<T>, ridge: f64, threads: Threads) {
        let now = &self.current;
        let (b, spatial) = match &self.previous {
            Some(before) => (
                along(&now.b, &before.b, self.step),
                now.spatial.extrapolate(&before.spatial, self.step),
            ),
            None => (now.b.clone(), now.spatial.clone()),
        };
        let (mut next, error_sq) = sweep(w, b, spatial, ridge, threads);
        let error = (error_sq.max(0.0) / w.norm_sq).sqrt();
        if error > self.error() && self.previous.is_some() {
            self.step *= STEP_SHRINK;
            self.previous = None;
            self.errors.push(self.error());
            return;
        }
        next.balance();
        let extrapolated = self.previous.is_some();
        self.previous = Some(std::mem::replace(&mut self.current, next));
        if extrapolated {
            self.step = (self.step * STEP_GROWTH).min(STEP_MAX);
        }
        self.errors.push(error);
    }
}

/// One ALS sweep, A then C (or H, V) then B, and the squared error after it.
///
/// Two products with W: Y_k = W_k·B serves A and the taps, Σ_k W_kᵀ·(A∘c_k) serves B. With
/// M_B that last product, ‖W − Ŵ‖² = ‖W‖² − 2⟨M_B, B⟩ + 1ᵀ(AᵀA ∘ BᵀB ∘ CᵀC)1.
fn sweep<T: Scalar>(
    w: &Slices<T>,
    b: Array2<f64>,
    spatial: Spatial,
    ridge: f64,
    threads: Threads,
) -> (Factors, f64) {
    let y = w.times_inputs(b.view(), threads);
    let gram_b = gram(b.view(), threads);
    let c = spatial.taps();
    let a = solve(
        contract_taps(y.view(), c.view(), threads),
        &gram_b * &spatial.gram(),
        ridge,
    );
    let gram_a = gram(a.view(), threads);
    let taps = contract_outputs(y.view(), a.view(), threads);
    drop(y);
    let spatial = solve_taps(taps, &gram_a * &gram_b, spatial, ridge);
    let m = w.times_outputs(a.view(), spatial.taps().view(), threads);
    let normal = gram_a * spatial.gram();
    let b = solve(m.clone(), normal.clone(), ridge);
    let cross = Zip::from(&m).and(&b).fold(0.0, |sum, m, b| sum + m * b);
    let model = (normal * gram(b.view(), threads)).sum();
    (Factors { a, b, spatial }, w.norm_sq - 2.0 * cross + model)
}

/// The spatial factor that fits `product` (K×R), the product of W with A ⊙ B, whose Gram is `normal`.
pub(crate) fn solve_taps(
    product: Array2<f64>,
    normal: Array2<f64>,
    before: Spatial,
    ridge: f64,
) -> Spatial {
    match before {
        Spatial::Joint(_) => Spatial::Joint(solve(product, normal, ridge)),
        Spatial::Split(h, v) => {
            let width = v.nrows();
            let mut m = Array2::zeros(h.dim());
            for (k, p) in product.outer_iter().enumerate() {
                let mut row = m.row_mut(k / width);
                Zip::from(&mut row)
                    .and(&p)
                    .and(&v.row(k % width))
                    .for_each(|m, p, v| *m += p * v);
            }
            let h = solve(m, &normal * &gram(v.view(), Threads::Serial), ridge);
            let mut m = Array2::zeros(v.dim());
            for (k, p) in product.outer_iter().enumerate() {
                let mut row = m.row_mut(k % width);
                Zip::from(&mut row)
                    .and(&p)
                    .and(&h.row(k / width))
                    .for_each(|m, p, h| *m += p * h);
            }
            let v = solve(m, normal * gram(h.view(), Threads::Serial), ridge);
            Spatial::Split(h, v)
        }
    }
}

/// M·(G + ridge·tr(G)/R·I)⁻¹ by Cholesky.
///
/// Where G is singular and `ridge` too small to mend it, the smallest ridge that does is used.
pub(crate) fn solve(mut m: Array2<f64>, gram: Array2<f64>, ridge: f64) -> Array2<f64> {
    let rank = gram.nrows();
    let mean = gram.diag().sum() / rank as f64;
    if mean <= 0.0 {
        m.fill(0.0);
        return m;
    }
    let mut shift = ridge;
    loop {
        let mut shifted = gram.clone();
        shifted.diag_mut().mapv_inplace(|d| d + shift * mean);
        if let Some(factor) = Cholesky::new(shifted.view()) {
            for mut rows in m.axis_chunks_iter_mut(Axis(0), 256) {
                factor.solve_right_in_place(rows.view_mut());
            }
            return m;
        }
        shift = (shift * 100.0).max(1e-14);
    }
}
