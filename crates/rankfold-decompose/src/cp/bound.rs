//! Error-preserving correction: the least rank-one energy Σλ² at no greater error.
//!
//! Phan, Tichavský and Cichocki, 2020: alternate over the factors; with the others at unit column
//! norms the energy is ‖A‖², and least ‖A‖² subject to ‖W − A·Kᵀ‖ ≤ δ is A = M·(G + μ·I)⁻¹ with
//! G = KᵀK, M = W·K and the largest μ that keeps the constraint. With G = Q·Λ·Qᵀ and m_i the
//! columns of M·Q,
//!
//! error²(μ) = ‖W‖² − Σ ‖m_i‖²·(λ_i + 2μ)/(λ_i + μ)² rises and
//! energy(μ) = Σ ‖m_i‖²/(λ_i + μ)² falls with μ, so that μ is the root of a function of one variable.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

use crate::blas::{dot, gram};
use crate::control::{Control, Progress};
use crate::cp::factors::{Factors, Spatial};
use crate::cp::tensor::{Slices, contract_outputs, contract_taps};
use crate::dense::eigh;
use crate::error::Result;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// Sweeps that lower the energy at the given error, and then, where that was not enough, sweeps that
/// lower the error at the bound on the energy.
const SWEEPS: [usize; 2] = [100, 20];
/// A sweep that lowers the energy by less than this, relatively, is the last of its kind.
const SETTLED: f64 = 1e-4;
const BISECTIONS: usize = 100;

/// Factors whose rank-one energy, over ‖W‖², is at most `bound`, and their relative error.
///
/// The error rises above `error` only where the correction alone does not reach the bound.
pub(crate) fn correct<T: Scalar>(
    w: &Slices<T>,
    mut factors: Factors,
    error: f64,
    bound: f64,
    threads: Threads,
    control: Control<'_>,
) -> Result<(Factors, f64, usize)> {
    let energy = bound * w.norm_sq;
    let mut goal = Goal {
        error_sq: Some(error * error * w.norm_sq),
        energy,
    };
    let mut error_sq = error * error * w.norm_sq;
    let mut sweeps = 0;
    for most in SWEEPS {
        let mut before = f64::INFINITY;
        for _ in 0..most {
            let now = factors.energy();
            let reached = now <= energy * (1.0 + 1e-9);
            if (reached && goal.error_sq.is_some()) || before - now < SETTLED * now && sweeps > 0 {
                break;
            }
            before = now;
            error_sq = sweep(w, &mut factors, goal, error_sq, threads)?;
            sweeps += 1;
            control.step(Progress {
                stage: "CP energy bound",
                step: sweeps,
                max_steps: SWEEPS.iter().sum(),
                relative_error: Some((error_sq.max(0.0) / w.norm_sq).sqrt()),
            })?;
        }
        if factors.energy() <= energy * (1.0 + 1e-9) {
            break;
        }
        goal.error_sq = None;
    }
    Ok((factors, (error_sq.max(0.0) / w.norm_sq).sqrt(), sweeps))
}

/// The largest squared error, if any, and the energy below which there is no need to go.
#[derive(Debug, Clone, Copy)]
struct Goal {
    error_sq: Option<f64>,
    energy: f64,
}

/// One update of every factor; the squared error after it.
fn sweep<T: Scalar>(
    w: &Slices<T>,
    factors: &mut Factors,
    goal: Goal,
    mut error_sq: f64,
    threads: Threads,
) -> Result<f64> {
    let taps = factors.spatial.taps();
    let y = w.times_inputs(factors.b.view(), threads);
    let normal = gram(factors.b.view(), threads) * factors.spatial.gram();
    let product = contract_taps(y.view(), taps.view(), threads);
    update(
        &mut factors.a,
        product,
        normal,
        goal,
        w.norm_sq,
        &mut error_sq,
    )?;

    let product = contract_outputs(y.view(), factors.a.view(), threads);
    let channels = gram(factors.a.view(), threads) * gram(factors.b.view(), threads);
    match &mut factors.spatial {
        Spatial::Joint(c) => update(c, product, channels, goal, w.norm_sq, &mut error_sq)?,
        Spatial::Split(h, v) => {
            let m = fold(product.view(), v, h.dim(), |k, width| {
                (k / width, k % width)
            });
            let normal = &channels * &gram(v.view(), threads);
            update(h, m, normal, goal, w.norm_sq, &mut error_sq)?;
            let m = fold(product.view(), h, v.dim(), |k, height| {
                let width = product.nrows() / height;
                (k % width, k / width)
            });
            let normal = channels * gram(h.view(), threads);
            update(v, m, normal, goal, w.norm_sq, &mut error_sq)?;
        }
    }

    let taps = factors.spatial.taps();
    let product = w.times_outputs(factors.a.view(), taps.view(), threads);
    let normal = gram(factors.a.view(), threads) * factors.spatial.gram();
    update(
        &mut factors.b,
        product,
        normal,
        goal,
        w.norm_sq,
        &mut error_sq,
    )?;
    factors.balance();
    Ok(error_sq)
}

/// Σ over the other direction of product ∘ `other`, one row for every tap of this direction.
fn fold(
    product: ArrayView2<'_, f64>,
    other: &Array2<f64>,
    shape: (usize, usize),
    place: impl Fn(usize, usize) -> (usize, usize),
) -> Array2<f64> {
    let mut m = Array2::zeros(shape);
    for (k, p) in product.outer_iter().enumerate() {
        let (here, there) = place(k, other.nrows());
        let mut row = m.row_mut(here);
        Zip::from(&mut row)
            .and(&p)
            .and(&other.row(there))
            .for_each(|m, p, o| *m += p * o);
    }
    m
}

/// Replaces one factor, given the product of W with the others and their Gram matrix.
fn update(
    factor: &mut Array2<f64>,
    mut product: Array2<f64>,
    mut normal: Array2<f64>,
    goal: Goal,
    norm_sq: f64,
    error_sq: &mut f64,
) -> Result<()> {
    let norms: Array1<f64> = normal.diag().mapv(f64::sqrt);
    let inverse = norms.mapv(|n| if n > 0.0 { 1.0 / n } else { 0.0 });
    product *= &inverse;
    normal *= &inverse;
    normal *= &inverse.view().insert_axis(Axis(1));
    let (values, vectors) = eigh(normal.view())?;
    let values = values.mapv(|v| v.max(0.0));
    let rotated = dot(product.view(), vectors.view(), Threads::Serial);
    let squares: Array1<f64> = rotated
        .columns()
        .into_iter()
        .map(|m| m.iter().map(|x| x * x).sum())
        .collect();
    let pairs = || squares.iter().zip(&values).filter(|(m, _)| **m > 0.0);
    let error = |mu: f64| -> f64 {
        norm_sq
            - pairs()
                .map(|(m, l)| m * (l + 2.0 * mu) / (l + mu).powi(2))
                .sum::<f64>()
    };
    let energy = |mu: f64| -> f64 { pairs().map(|(m, l)| m / (l + mu).powi(2)).sum() };
    let least = 1e-12;
    let enough = root(least, |mu| energy(mu) <= goal.energy);
    let mu = match goal.error_sq {
        Some(limit) if error(least) > limit => return Ok(()),
        Some(limit) => enough.min(root(least, |mu| error(mu) > limit)),
        None => enough,
    };
    *error_sq = error(mu);
    let scaled = rotated / &values.mapv(|l| l + mu);
    *factor = dot(scaled.view(), vectors.t(), Threads::Serial) * &inverse;
    Ok(())
}

/// The point from which on a monotone `condition` holds, from below `least` up; bisected on a
/// logarithmic scale.
fn root(least: f64, condition: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (least, 1e6);
    if condition(low) {
        return low;
    }
    for _ in 0..BISECTIONS {
        let middle = (low * high).sqrt();
        if condition(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    low
}
