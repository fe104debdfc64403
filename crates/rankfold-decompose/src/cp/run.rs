//! From a kernel and options to factors and their certificate.

use ndarray::{ArrayView4, Axis, s};

use crate::blas::dot;
use crate::check;
use crate::control::Control;
use crate::cp::als::{Iteration, Limits};
use crate::cp::bound;
use crate::cp::factors::Factors;
use crate::cp::layout::CpWeights;
use crate::cp::options::{Als, CpForm, CpMethod, CpOptions, Start};
use crate::cp::power;
use crate::cp::start::{self, ChannelBases};
use crate::cp::tensor::Slices;
use crate::error::{DecomposeError, Result};
use crate::rank::Truncation;
use crate::scalar::Scalar;
use crate::svd::{SvdOptions, svd};

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

/// Fails on a kernel, ranks or options that do not fit each other.
pub(crate) fn check_input<T: Scalar>(
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
        return Ok((w.scale, two_way(&w, ranks, options, control)?));
    }
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by_key(|&i| ranks[i]);
    let nested = match options.method {
        CpMethod::Power(power) | CpMethod::PowerThenAls(power, _) if w.norm_sq > 0.0 => {
            let ascending: Vec<usize> = order.iter().map(|&i| ranks[i]).collect();
            let (form, seed, threads) = (options.form, options.seed, options.threads);
            power::power(&w, &ascending, form, &power, seed, threads, control)?
        }
        _ => Vec::new(),
    };
    let mut nested = nested.into_iter().rev();
    let mut points: Vec<Option<Cp<T>>> = ranks.iter().map(|_| None).collect();
    let mut above: Option<Factors> = None;
    for &i in order.iter().rev() {
        let start = nested.next();
        let solution = match (options.method, start) {
            (CpMethod::Power(_), Some(p)) => Solution {
                factors: p.factors,
                relative_error: p.relative_error,
                iterations: p.passes,
            },
            (CpMethod::PowerThenAls(_, als), Some(p)) => {
                let run = Begin::From(Box::new(p.factors));
                let mut solution = solve(&w, ranks[i], &als, options, run, control)?;
                solution.iterations += p.passes;
                solution
            }
            (CpMethod::Als(als) | CpMethod::PowerThenAls(_, als), _) => {
                let run = above.take().map_or(Begin::Anew, |f| {
                    Begin::From(Box::new(f.strongest(ranks[i])))
                });
                let solution = solve(&w, ranks[i], &als, options, run, control)?;
                above = Some(solution.factors.clone());
                solution
            }
            (CpMethod::Power(_), None) => {
                solve(&w, ranks[i], &Als::default(), options, Begin::Anew, control)?
            }
        };
        points[i] = Some(solution.bounded(&w, options, control)?.point(&w));
    }
    Ok((w.scale, points.into_iter().flatten().collect()))
}

/// Where the sweeps at one rank begin.
enum Begin {
    /// At a start of the options' choice.
    Anew,
    /// At given factors.
    From(Box<Factors>),
}

impl Solution {
    /// This solution with its energy inside the options' bound.
    fn bounded<T: Scalar>(
        self,
        w: &Slices<T>,
        options: &CpOptions,
        control: Control<'_>,
    ) -> Result<Self> {
        match options.energy_bound {
            Some(bound) if self.factors.energy() > bound * w.norm_sq => {
                let (error, threads) = (self.relative_error, options.threads);
                let (factors, relative_error, sweeps) =
                    bound::correct(w, self.factors, error, bound, threads, control)?;
                Ok(Self {
                    factors,
                    relative_error,
                    iterations: self.iterations + sweeps,
                })
            }
            _ => Ok(self),
        }
    }

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
    begin: Begin,
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
    let begin = match begin {
        Begin::From(factors) => *factors,
        Begin::Anew => {
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

/// The two-way form at every rank, from one truncated SVD of the T×S·K matrix of filters.
fn two_way<T: Scalar>(
    w: &Slices<T>,
    ranks: &[usize],
    options: &CpOptions,
    control: Control<'_>,
) -> Result<Vec<Cp<T>>> {
    let (taps, outputs, inputs) = w.dim();
    let filters = w
        .values()
        .permuted_axes([1, 2, 0])
        .as_standard_layout()
        .into_owned();
    let filters = filters.into_shape_with_order((outputs, inputs * taps));
    let filters = filters.expect("invariant: standard layout");
    let most = ranks.iter().copied().max().unwrap_or(1);
    let settings = SvdOptions {
        seed: options.seed,
        threads: options.threads,
        ..SvdOptions::default()
    };
    let found = svd(filters.view(), Truncation::rank(most)?, &settings, control)?;
    let sigma = found.s.mapv(Scalar::as_f64);
    let root = sigma.mapv(|s| (s * w.scale).sqrt());
    let left = &found.u.mapv(Scalar::as_f64) * &root;
    let right = &found.vt.mapv(Scalar::as_f64) * &root.insert_axis(Axis(1));
    Ok(ranks
        .iter()
        .map(|&rank| {
            let (left, right) = (left.slice(s![.., ..rank]), right.slice(s![..rank, ..]));
            let energy: f64 = sigma.iter().take(rank).map(|s| s * s).sum();
            let mut error = (w.norm_sq - energy).max(0.0).sqrt();
            if error < MEASURE_BELOW {
                let model = dot(left, right, options.threads);
                let scale = if w.scale > 0.0 { w.scale } else { 1.0 };
                let pairs = filters.iter().zip(&model);
                error = pairs
                    .map(|(w, m)| (w.as_f64() - m / scale).powi(2))
                    .sum::<f64>()
                    .sqrt();
            }
            Cp {
                weights: CpWeights::from_matrices(left, right, inputs, w.taps),
                relative_error: error,
                energy,
                iterations: 0,
            }
        })
        .collect())
}
