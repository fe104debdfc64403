//! Three-way CP factors refined under the full metric of a layer's response.
//!
//! [`KroneckerMetric`](crate::KroneckerMetric) makes CP data-aware by C ≈ C_channel ⊗ C_spatial.
//! From such factors, alternating least squares on
//!
//! ```text
//! f(A, B, K) = tr[G (W − Ŵ) C (W − Ŵ)ᵀ],   Ŵ = A Z,   Z[r, (s, k)] = B[s, r] K[k, r]
//! ```
//!
//! takes the covariance C (S·D² × S·D²) as it is, and a metric G (T×T) of how much an error in each
//! output channel matters. With H = AᵀGA and P = AᵀGWC:
//!
//! - A = W C Zᵀ (Z C Zᵀ)⁻¹, whatever G is;
//! - K solves Σ_qj H_rq (BᵀC_ijB)_rq K_jq = Σ_s P[r, (s, i)] B[s, r], a system of R·D² unknowns;
//! - B solves the like by conjugate gradients, preconditioned with C_channel ⊗ (H ∘ KᵀC_spatialK).

use ndarray::{Array1, Array2, ArrayView2, ArrayView4, Axis, s};

use crate::blas::dot;
use crate::check;
use crate::control::{Control, Progress};
use crate::cp::layout::CpWeights;
use crate::dense::{Cholesky, eigh};
use crate::error::{DecomposeError, Result};
use crate::scalar::Scalar;
use crate::threads::Threads;
use crate::weighted::InputCovariance;

/// How long and how carefully factors are refined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refine {
    /// Sweeps over the three factors.
    pub sweeps: usize,
    /// Steps of conjugate gradients for B in a sweep.
    pub steps: usize,
    /// Ridge of every normal matrix, in units of its mean diagonal.
    pub ridge: f64,
    /// The cores to use.
    pub threads: Threads,
}

impl Default for Refine {
    fn default() -> Self {
        Self {
            sweeps: 12,
            steps: 6,
            ridge: 1e-4,
            threads: Threads::default(),
        }
    }
}

/// What three-way factors are fitted to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Second moments of the inputs that the factors will see.
    pub covariance: &'a InputCovariance,
    /// E[x x̂ᵀ] of the inputs that the kernel answers and those that the factors will see, per group;
    /// the covariance itself where both are the same.
    pub cross: Option<&'a [Array2<f64>]>,
    /// A metric (T×T) of how much an error in each output channel matters.
    pub outputs: Option<ArrayView2<'a, f64>>,
}

/// The tap systems of more unknowns than this are left as they are.
const MAX_TAP_UNKNOWNS: usize = 6000;

/// Three-way factors of `kernel` [T, S/g, Dh, Dw], refined towards a target.
///
/// Fails where the weights are not three-way, or shapes do not fit.
pub fn refine<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    weights: &CpWeights<T>,
    target: Target<'_>,
    options: &Refine,
    control: Control<'_>,
) -> Result<CpWeights<T>> {
    let Target {
        covariance,
        cross,
        outputs,
    } = target;
    let (t, inputs, height, width) = kernel.dim();
    let groups = weights.groups;
    check::finite("kernel", &kernel)?;
    covariance.expect(groups, inputs * height * width)?;
    if let Some(metric) = &outputs {
        check::finite("output metric", metric)?;
        check::shape("output metric", metric, &[t, t])?;
    }
    for matrix in cross.into_iter().flatten() {
        let patch = covariance.patch_len();
        check::finite("cross covariance", matrix)?;
        check::shape("cross covariance", matrix, &[patch, patch])?;
    }
    let [taps] = &weights.spatial[..] else {
        return Err(DecomposeError::ShapeMismatch {
            array: "spatial factors",
            expected: vec![1],
            got: vec![weights.spatial.len()],
        });
    };
    check::shape("spatial factors", taps, &[weights.rank(), 1, height, width])?;
    let (own, rank) = (t / groups, weights.rank() / groups);
    let mut parts = Vec::with_capacity(groups);
    for group in 0..groups {
        let rows = group * own..(group + 1) * own;
        let ranks = group * rank..(group + 1) * rank;
        let metric = outputs
            .as_ref()
            .map(|metric| metric.slice(s![rows.clone(), rows.clone()]).to_owned());
        let filters = matrix(kernel.slice(s![rows.clone(), .., .., ..]));
        let moments = Moments {
            covariance: covariance.moments(group),
            cross: cross.and_then(|cross| cross.get(group)),
        };
        let problem = Problem::new(filters, inputs, moments, metric, options)?;
        let start = Factors {
            a: matrix(weights.output.slice(s![rows, .., .., ..])),
            b: matrix(weights.input.slice(s![ranks.clone(), .., .., ..])).reversed_axes(),
            k: matrix(taps.slice(s![ranks, .., .., ..])).reversed_axes(),
        };
        let refined = problem.run(start, control)?;
        parts.push(refined.into_weights((height, width)));
    }
    Ok(CpWeights::assemble(parts))
}

/// An array with its trailing axes merged, as a matrix in f64.
fn matrix<T: Scalar>(array: ArrayView4<'_, T>) -> Array2<f64> {
    let rows = array.len_of(Axis(0));
    let values: Vec<f64> = array.iter().map(|x| x.as_f64()).collect();
    let columns = values.len() / rows.max(1);
    Array2::from_shape_vec((rows, columns), values).expect("invariant: every element is kept")
}

/// A (T×R), B (S×R) and K (D²×R).
#[derive(Debug, Clone)]
struct Factors {
    a: Array2<f64>,
    b: Array2<f64>,
    k: Array2<f64>,
}

impl Factors {
    /// Z[r, (s, k)] = B[s, r] K[k, r].
    fn rows(b: &Array2<f64>, k: &Array2<f64>) -> Array2<f64> {
        let (inputs, rank) = b.dim();
        let taps = k.nrows();
        let mut z = Array2::zeros((rank, inputs * taps));
        for (r, mut row) in z.outer_iter_mut().enumerate() {
            let row = row.as_slice_mut().expect("invariant: rows are contiguous");
            for (s, cell) in row.chunks_exact_mut(taps).enumerate() {
                let scale = b[[s, r]];
                for (value, k) in cell.iter_mut().zip(k.column(r)) {
                    *value = scale * k;
                }
            }
        }
        z
    }

    /// The norm of every term spread evenly over its three factors.
    fn balance(&mut self) {
        for r in 0..self.a.ncols() {
            let norms = [&self.a, &self.b, &self.k]
                .map(|factor| factor.column(r).iter().map(|x| x * x).sum::<f64>().sqrt());
            let each = norms.iter().product::<f64>().cbrt();
            if each > 0.0 {
                self.a.column_mut(r).mapv_inplace(|x| x * each / norms[0]);
                self.b.column_mut(r).mapv_inplace(|x| x * each / norms[1]);
                self.k.column_mut(r).mapv_inplace(|x| x * each / norms[2]);
            }
        }
    }

    fn is_finite(&self) -> bool {
        let finite = |factor: &Array2<f64>| factor.iter().all(|x| x.is_finite());
        finite(&self.a) && finite(&self.b) && finite(&self.k)
    }

    fn into_weights<T: Scalar>(self, taps: (usize, usize)) -> CpWeights<T> {
        let joint = crate::cp::factors::Spatial::Joint(self.k);
        let factors = crate::cp::factors::Factors {
            a: self.a,
            b: self.b,
            spatial: joint,
        };
        CpWeights::from_factors(&factors, taps)
    }
}

/// One group's second moments.
#[derive(Clone, Copy)]
struct Moments<'a> {
    covariance: ArrayView2<'a, f64>,
    cross: Option<&'a Array2<f64>>,
}

/// One group's least-squares problem.
struct Problem<'a> {
    covariance: ArrayView2<'a, f64>,
    metric: Option<Array2<f64>>,
    /// The covariance of the wanted responses with the inputs: W·C where those are the kernel's own.
    answered: Array2<f64>,
    /// The same under the metric: G·W·C.
    weighted: Array2<f64>,
    /// tr[G W C Wᵀ].
    energy: f64,
    inputs: usize,
    taps: usize,
    channel_values: Array1<f64>,
    channel_vectors: Array2<f64>,
    /// C_spatial / tr C_channel.
    spatial: Array2<f64>,
    options: &'a Refine,
}

impl<'a> Problem<'a> {
    fn new(
        filters: Array2<f64>,
        inputs: usize,
        Moments { covariance, cross }: Moments<'a>,
        metric: Option<Array2<f64>>,
        options: &'a Refine,
    ) -> Result<Self> {
        let taps = filters.ncols() / inputs;
        let mut channel = Array2::<f64>::zeros((inputs, inputs));
        let mut spatial = Array2::<f64>::zeros((taps, taps));
        for a in 0..inputs {
            for b in 0..inputs {
                for i in 0..taps {
                    channel[[a, b]] += covariance[[a * taps + i, b * taps + i]] / taps as f64;
                }
            }
            for i in 0..taps {
                for j in 0..taps {
                    spatial[[i, j]] += covariance[[a * taps + i, a * taps + j]];
                }
            }
        }
        let trace = channel.diag().sum();
        if trace > 0.0 {
            spatial /= trace;
        }
        let (channel_values, channel_vectors) = eigh(channel.view())?;
        let answered = match cross {
            Some(cross) => dot(filters.view(), cross.view(), options.threads),
            None => dot(filters.view(), covariance, options.threads),
        };
        let weighted = match &metric {
            Some(metric) => dot(metric.view(), answered.view(), options.threads),
            None => answered.clone(),
        };
        Ok(Self {
            energy: inner(&weighted, &filters),
            covariance,
            metric,
            answered,
            weighted,
            inputs,
            taps,
            channel_values: channel_values.mapv(|x| x.max(0.0)),
            channel_vectors,
            spatial,
            options,
        })
    }

    fn run(&self, start: Factors, control: Control<'_>) -> Result<Factors> {
        if self.energy.is_nan() || self.energy <= 0.0 {
            return Ok(start);
        }
        let mut best = start.clone();
        let mut least = self.error(&start);
        let mut now = start;
        self.solve_outputs(&mut now);
        for sweep in 0..self.options.sweeps {
            self.solve_taps(&mut now);
            self.solve_inputs(&mut now);
            self.solve_outputs(&mut now);
            now.balance();
            let error = if now.is_finite() {
                self.error(&now)
            } else {
                f64::INFINITY
            };
            if error < least {
                least = error;
                best = now.clone();
            } else if error.is_nan() || error > least + self.energy {
                break;
            }
            control.step(Progress {
                stage: "CP refinement",
                step: sweep + 1,
                max_steps: self.options.sweeps,
                relative_error: Some((least / self.energy).max(0.0).sqrt()),
            })?;
        }
        Ok(best)
    }

    /// tr[G (W − Ŵ) C (W − Ŵ)ᵀ], up to a constant where the kernel's inputs are others.
    fn error(&self, factors: &Factors) -> f64 {
        let z = Factors::rows(&factors.b, &factors.k);
        let zc = dot(z.view(), self.covariance, self.options.threads);
        let gram = dot(zc.view(), z.t(), self.options.threads);
        let cross = dot(factors.a.t(), self.weighted.view(), self.options.threads);
        let h = self.output_gram(&factors.a);
        self.energy - 2.0 * inner(&cross, &z) + inner(&h, &gram)
    }

    /// H = AᵀGA.
    fn output_gram(&self, a: &Array2<f64>) -> Array2<f64> {
        match &self.metric {
            Some(metric) => {
                let weighted = dot(metric.view(), a.view(), self.options.threads);
                dot(a.t(), weighted.view(), self.options.threads)
            }
            None => dot(a.t(), a.view(), self.options.threads),
        }
    }

    /// A = W C Zᵀ (Z C Zᵀ)⁻¹.
    fn solve_outputs(&self, factors: &mut Factors) {
        let z = Factors::rows(&factors.b, &factors.k);
        let zc = dot(z.view(), self.covariance, self.options.threads);
        let mut normal = dot(zc.view(), z.t(), self.options.threads);
        let mut right = dot(self.answered.view(), z.t(), self.options.threads);
        self.add_ridge(&mut normal);
        if let Some(cholesky) = Cholesky::new(normal.view()) {
            cholesky.solve_right_in_place(right.view_mut());
            factors.a = right;
        }
    }

    /// K from its normal equations, all terms and taps at once.
    fn solve_taps(&self, factors: &mut Factors) {
        let (inputs, taps) = (self.inputs, self.taps);
        let rank = factors.a.ncols();
        if rank * taps > MAX_TAP_UNKNOWNS {
            return;
        }
        let h = self.output_gram(&factors.a);
        let cross = dot(factors.a.t(), self.weighted.view(), self.options.threads);
        // [r, (i, t, j)] = Σ_s B[s, r] C[(s, i), (t, j)]
        let moments = self
            .covariance
            .as_standard_layout()
            .into_owned()
            .into_shape_with_order((inputs, taps * inputs * taps))
            .expect("invariant: rows (s, i), columns (t, j)");
        let half = dot(factors.b.t(), moments.view(), self.options.threads);
        let half = half
            .into_shape_with_order((rank * taps, inputs, taps))
            .expect("invariant: rows (r, i)");
        let mut normal = Array2::<f64>::zeros((rank * taps, rank * taps));
        for j in 0..taps {
            let product = dot(
                half.slice(s![.., .., j]),
                factors.b.view(),
                self.options.threads,
            );
            let mut columns = normal.slice_mut(s![.., j..; taps]);
            for ((row, mut target), source) in columns
                .outer_iter_mut()
                .enumerate()
                .zip(product.outer_iter())
            {
                let weights = h.row(row / taps);
                for ((cell, value), weight) in target.iter_mut().zip(source).zip(weights) {
                    *cell = value * weight;
                }
            }
        }
        let mut right = Array2::<f64>::zeros((rank * taps, 1));
        for r in 0..rank {
            for i in 0..taps {
                right[[r * taps + i, 0]] = (0..inputs)
                    .map(|s| cross[[r, s * taps + i]] * factors.b[[s, r]])
                    .sum();
            }
        }
        self.add_ridge(&mut normal);
        if let Some(cholesky) = Cholesky::new(normal.view()) {
            cholesky.solve_in_place(right.view_mut());
            for r in 0..rank {
                for i in 0..taps {
                    factors.k[[i, r]] = right[[r * taps + i, 0]];
                }
            }
        }
    }

    /// B by preconditioned conjugate gradients from where it is.
    fn solve_inputs(&self, factors: &mut Factors) {
        let h = self.output_gram(&factors.a);
        let cross = dot(factors.a.t(), self.weighted.view(), self.options.threads);
        let right = self.gather(&cross, &factors.k);
        let spread = dot(self.spatial.view(), factors.k.view(), Threads::Serial);
        let inner_normal = &h * &dot(factors.k.t(), spread.view(), Threads::Serial);
        let mean = |values: &Array1<f64>| values.sum() / values.len() as f64;
        let channel_mean = mean(&self.channel_values);
        let ridge = self.options.ridge * mean(&inner_normal.diag().to_owned()) * channel_mean;
        let Ok((values, vectors)) = eigh(inner_normal.view()) else {
            return;
        };
        let values = values.mapv(|x| x.max(0.0));
        let floor = ridge + 1e-2 * channel_mean * mean(&values);
        let precondition = |x: &Array2<f64>| {
            let mut inside = dot(self.channel_vectors.t(), x.view(), Threads::Serial);
            inside = dot(inside.view(), vectors.view(), Threads::Serial);
            for ((s, r), cell) in inside.indexed_iter_mut() {
                *cell /= self.channel_values[s] * values[r] + floor;
            }
            let outside = dot(self.channel_vectors.view(), inside.view(), Threads::Serial);
            dot(outside.view(), vectors.t(), Threads::Serial)
        };
        let apply = |x: &Array2<f64>| {
            let z = Factors::rows(x, &factors.k);
            let zc = dot(z.view(), self.covariance, self.options.threads);
            let hzc = dot(h.view(), zc.view(), self.options.threads);
            let mut out = self.gather(&hzc, &factors.k);
            out.scaled_add(ridge, x);
            out
        };
        let mut x = factors.b.clone();
        let mut residual = &right - &apply(&x);
        let mut z = precondition(&residual);
        let mut direction = z.clone();
        let mut rz = inner(&residual, &z);
        for _ in 0..self.options.steps {
            let image = apply(&direction);
            let curvature = inner(&direction, &image);
            if rz <= 0.0 || curvature <= 0.0 || !curvature.is_finite() {
                break;
            }
            let step = rz / curvature;
            x.scaled_add(step, &direction);
            residual.scaled_add(-step, &image);
            z = precondition(&residual);
            let next = inner(&residual, &z);
            direction *= next / rz;
            direction += &z;
            rz = next;
        }
        if x.iter().all(|value| value.is_finite()) {
            factors.b = x;
        }
    }

    /// [s, r] = Σ_k M[r, (s, k)] K[k, r].
    fn gather(&self, m: &Array2<f64>, k: &Array2<f64>) -> Array2<f64> {
        let rank = m.nrows();
        let mut out = Array2::<f64>::zeros((self.inputs, rank));
        for r in 0..rank {
            let row = m.row(r);
            for s in 0..self.inputs {
                out[[s, r]] = (0..self.taps)
                    .map(|i| row[s * self.taps + i] * k[[i, r]])
                    .sum();
            }
        }
        out
    }

    fn add_ridge(&self, normal: &mut Array2<f64>) {
        let mean = normal.diag().sum() / normal.nrows() as f64;
        let ridge = self.options.ridge * mean + f64::MIN_POSITIVE;
        normal.diag_mut().mapv_inplace(|x| x + ridge);
    }
}

/// ⟨a, b⟩.
fn inner(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
