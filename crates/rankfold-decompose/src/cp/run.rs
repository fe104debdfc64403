//! From a kernel and options to factors and their certificate.

use ndarray::{ArrayView4, Axis};

use crate::check;
use crate::control::Control;
use crate::cp::als::{Iteration, Limits};
use crate::cp::factors::Factors;
use crate::cp::layout::CpWeights;
use crate::cp::options::{Als, CpForm, CpMethod, CpOptions, Start};
use crate::cp::start::{self, ChannelBases};
use crate::cp::tensor::Slices;
use crate::dense::thin_svd;
use crate::error::{DecomposeError, Result};
use crate::scalar::Scalar;

/// A CP decomposition and what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cp<T> {
    /// The factors as convolution weights, the norm of every term spread evenly over them.
    pub weights: CpWeights<T>,
    /// ‖W − Ŵ‖/‖W‖, 0 for a zero kernel.
    pub relative_error: f64,
    /// Σλ²/‖W‖², the squared norms of the rank-one terms over that of the kernel. At most 1 for
    /// orthogonal terms; far above where large terms cancel, which fine-tuning does not survive.
    pub energy: f64,
    /// Sweeps, or passes of the power method over all terms; the most that any group took. 0 where
    /// a direct method was used.
    pub iterations: usize,
}

/// Factors of one group.
struct Solution {
    factors: Factors,
    relative_error: f64,
    iterations: usize,
}

/// The largest rank, at which the decomposition is exact: Dh·Dw·min(T/g, S/g)·g, and
/// min(T/g, S/g·Dh·Dw)·g in the two-way form. `shape` is [T, S/g, Dh, Dw] and g is `groups`.
pub fn max_rank(shape: [usize; 4], groups: usize, form: CpForm) -> usize {
    let [outputs, inputs, height, width] = shape;
    let outputs = outputs / groups.max(1);
    groups
        * match form {
            CpForm::TwoWay => outputs.min(inputs * height * width),
            CpForm::ThreeWay | CpForm::FourWay => height * width * outputs.min(inputs),
        }
}

/// The CP decomposition of a kernel [T, S/groups, Dh, Dw] at `rank`.
pub fn cp<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    rank: usize,
    options: &CpOptions,
    control: Control<'_>,
) -> Result<Cp<T>> {
    let mut curve = cp_curve(kernel, &[rank], options, control)?;
    Ok(curve
        .pop()
        .expect("invariant: one rank in, one decomposition out"))
}

/// The decompositions of a kernel at every rank of `ranks`, in their order.
///
/// One pass from the largest rank down: each starts from the strongest terms of the one before.
pub fn cp_curve<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    ranks: &[usize],
    options: &CpOptions,
    control: Control<'_>,
) -> Result<Vec<Cp<T>>> {
    check_input(&kernel, ranks, options)?;
    let groups = options.groups;
    let size = kernel.len_of(Axis(0)) / groups;
    let local: Vec<usize> = ranks.iter().map(|rank| rank / groups).collect();
    let mut parts = Vec::with_capacity(groups);
    for (g, group) in kernel.axis_chunks_iter(Axis(0), size).enumerate() {
        let options = CpOptions {
            seed: options.seed.wrapping_add(g as u64),
            ..*options
        };
        parts.push(curve_of_group(group, &local, &options, control)?);
    }
    let total: f64 = parts.iter().map(|(norm, _)| norm * norm).sum();
    let shares: Vec<f64> = parts
        .iter()
        .map(|(norm, _)| {
            if total > 0.0 {
                norm * norm / total
            } else {
                0.0
            }
        })
        .collect();
    let mut runs: Vec<_> = parts
        .into_iter()
        .map(|(_, curve)| curve.into_iter())
        .collect();
    Ok(ranks
        .iter()
        .map(|_| {
            let points: Vec<Cp<T>> = runs.iter_mut().filter_map(Iterator::next).collect();
            let weighted = |value: &dyn Fn(&Cp<T>) -> f64| -> f64 {
                points
                    .iter()
                    .zip(&shares)
                    .map(|(p, share)| share * value(p))
                    .sum()
            };
            Cp {
                relative_error: weighted(&|p| p.relative_error * p.relative_error).sqrt(),
                energy: weighted(&|p| p.energy),
                iterations: points.iter().map(|p| p.iterations).max().unwrap_or(0),
                weights: CpWeights::assemble(points.into_iter().map(|p| p.weights).collect()),
            }
        })
        .collect())
}

fn check_input<T: Scalar>(
    kernel: &ArrayView4<'_, T>,
    ranks: &[usize],
    options: &CpOptions,
) -> Result<()> {
    options.check()?;
    check::finite("convolution kernel", kernel)?;
    let (outputs, inputs, height, width) = kernel.dim();
    let (groups, form) = (options.groups, options.form.name());
    if groups == 0 || outputs % groups != 0 {
        return Err(DecomposeError::GroupsNotDivisible {
            groups,
            channels: outputs,
        });
    }
    if groups > 1 && inputs == 1 {
        return Err(DecomposeError::Depthwise {
            form,
            groups,
            height,
            width,
        });
    }
    let max = max_rank([outputs, inputs, height, width], groups, options.form);
    for &rank in ranks {
        if rank == 0 {
            return Err(DecomposeError::ZeroRank);
        }
        if rank % groups != 0 {
            return Err(DecomposeError::RankNotDivisible { rank, groups });
        }
        if rank > max {
            return Err(DecomposeError::RankTooLarge { form, rank, max });
        }
    }
    Ok(())
}

/// The norm of one group's kernel and its decompositions.
fn curve_of_group<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    ranks: &[usize],
    options: &CpOptions,
    control: Control<'_>,
) -> Result<(f64, Vec<Cp<T>>)> {
    let w = Slices::new(kernel);
    if options.form == CpForm::TwoWay {
        return Ok((w.scale, two_way(&w, ranks)?));
    }
    let CpMethod::Als(als) = options.method;
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(ranks[i]));
    let mut points: Vec<Option<Cp<T>>> = ranks.iter().map(|_| None).collect();
    let mut above: Option<Factors> = None;
    for i in order {
        let solution = solve(&w, ranks[i], &als, options, above.as_ref(), control)?;
        points[i] = Some(solution.point(&w));
        above = Some(solution.factors);
    }
    Ok((w.scale, points.into_iter().flatten().collect()))
}

impl Solution {
    fn point<T: Scalar>(&self, w: &Slices<T>) -> Cp<T> {
        let mut factors = self.factors.strongest(self.factors.rank());
        let energy = factors.energy();
        let mut parts = factors.parts_mut();
        let share = w.scale.powf(1.0 / parts.len() as f64);
        for part in &mut parts {
            **part *= share;
        }
        Cp {
            weights: CpWeights::from_factors(&factors, w.taps),
            relative_error: self.relative_error,
            energy,
            iterations: self.iterations,
        }
    }
}

/// Sweeps after which starting points are compared.
const TRIAL_SWEEPS: usize = 8;
/// A core is used where its slices have at most this share of the kernel's elements.
const CORE_SHARE: f64 = 0.5;
/// Columns of a core's bases for each of the rank's.
const CORE_MARGIN: f64 = 1.25;
/// Below this the expanded square of the error is lost in rounding and the error is measured.
const MEASURE_BELOW: f64 = 0.02;

fn solve<T: Scalar>(
    w: &Slices<T>,
    rank: usize,
    als: &Als,
    options: &CpOptions,
    above: Option<&Factors>,
    control: Control<'_>,
) -> Result<Solution> {
    let threads = options.threads;
    let (taps, outputs, inputs) = w.dim();
    if w.norm_sq == 0.0 || rank == taps * outputs.min(inputs) {
        let mut factors = start::exact(w, rank, options.form, threads)?;
        factors.balance();
        let relative_error = factors.measured_error(w, threads);
        return Ok(Solution {
            factors,
            relative_error,
            iterations: 0,
        });
    }
    let limits = Limits {
        ridge: als.ridge,
        sweeps: als.max_sweeps,
        tolerance: als.tolerance,
    };
    let mut before = 0;
    let begin = match above {
        Some(above) => above.strongest(rank),
        None => {
            let keep = (rank as f64 * CORE_MARGIN).ceil() as usize;
            let (left, right) = (keep.min(outputs), keep.min(inputs));
            if (left * right) as f64 <= CORE_SHARE * (outputs * inputs) as f64 {
                let bases = ChannelBases::new(w, left, right, threads)?;
                let core = w.project(bases.outputs.view(), bases.inputs.view(), threads);
                let mut run = best_start(&core, rank, als, options, limits, control)?;
                run.run(&core, limits, threads, control)?;
                before = run.sweeps();
                run.into_factors()
                    .expand(bases.outputs.view(), bases.inputs.view())
            } else {
                let mut run = best_start(w, rank, als, options, limits, control)?;
                run.run(w, limits, threads, control)?;
                return Ok(finish(w, run, 0, threads));
            }
        }
    };
    let mut run = Iteration::new(begin);
    run.run(w, limits, threads, control)?;
    Ok(finish(w, run, before, threads))
}

fn finish<T: Scalar>(
    w: &Slices<T>,
    run: Iteration,
    before: usize,
    threads: crate::threads::Threads,
) -> Solution {
    let iterations = before + run.sweeps();
    let error = run.error();
    let factors = run.into_factors();
    let relative_error = if error < MEASURE_BELOW {
        factors.measured_error(w, threads)
    } else {
        error
    };
    Solution {
        factors,
        relative_error,
        iterations,
    }
}

/// The iteration that stands best after a few sweeps.
fn best_start<T: Scalar>(
    w: &Slices<T>,
    rank: usize,
    als: &Als,
    options: &CpOptions,
    limits: Limits,
    control: Control<'_>,
) -> Result<Iteration> {
    let (form, seed, threads) = (options.form, options.seed, options.threads);
    let starts = match als.start {
        Start::Best => vec![
            start::slices(w, rank, form, threads)?,
            start::hosvd(w, rank, form, seed, threads)?,
        ],
        Start::Slices => vec![start::slices(w, rank, form, threads)?],
        Start::Hosvd => vec![start::hosvd(w, rank, form, seed, threads)?],
        Start::Random => vec![start::random(w, rank, form, seed)],
    };
    let alone = starts.len() == 1;
    let mut best: Option<Iteration> = None;
    for start in starts {
        let mut run = Iteration::new(start);
        if alone {
            return Ok(run);
        }
        let trial = Limits {
            sweeps: TRIAL_SWEEPS.min(limits.sweeps),
            ..limits
        };
        run.run(w, trial, threads, control)?;
        if best.as_ref().is_none_or(|b| run.error() < b.error()) {
            best = Some(run);
        }
    }
    Ok(best.expect("invariant: there is at least one start"))
}

/// The two-way form at every rank, from one SVD.
fn two_way<T: Scalar>(w: &Slices<T>, ranks: &[usize]) -> Result<Vec<Cp<T>>> {
    let (taps, outputs, inputs) = w.dim();
    let unfolded = w.values().permuted_axes([1, 2, 0]).mapv(Scalar::as_f64);
    let matrix = unfolded
        .as_standard_layout()
        .into_owned()
        .into_shape_with_order((outputs, inputs * taps))
        .expect("invariant: standard layout");
    let svd = thin_svd(matrix.view())?;
    Ok(ranks
        .iter()
        .map(|&rank| {
            let root = svd
                .s
                .slice(ndarray::s![..rank])
                .mapv(|s| (s * w.scale).sqrt());
            let left = &svd.u.slice(ndarray::s![.., ..rank]) * &root;
            let right = &svd.vt.slice(ndarray::s![..rank, ..]) * &root.insert_axis(Axis(1));
            let tail: f64 = svd.s.iter().skip(rank).map(|s| s * s).sum();
            Cp {
                weights: CpWeights::from_matrices(left.view(), right.view(), inputs, w.taps),
                relative_error: tail.sqrt(),
                energy: svd.s.iter().take(rank).map(|s| s * s).sum(),
                iterations: 0,
            }
        })
        .collect())
}
