//! Tucker-2: a 1×1 convolution S → R₁, a Dh×Dw core R₁ → R₂ and a 1×1 convolution R₂ → T.

use ndarray::{Array2, Array4, ArrayView2, ArrayView4, s};

use super::{ConvOptions, Kernel, Share, filters, pointwise, stack};
use crate::blas;
use crate::check;
use crate::control::{Control, Progress};
use crate::dense;
use crate::error::Result;
use crate::rank::Rank;
use crate::scalar::Scalar;
use crate::scale;
use crate::svd::CANCELLATION;
use crate::threads::Threads;
use crate::weighted::KroneckerMetric;

/// The two ranks of a Tucker-2 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tucker2Rank {
    /// Channels that enter the core, at most S.
    pub inputs: Rank,
    /// Channels that leave the core, at most T.
    pub outputs: Rank,
}

impl Tucker2Rank {
    /// The pair of ranks, or [`ZeroRank`](crate::DecomposeError::ZeroRank).
    pub fn new(inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            inputs: Rank::new(inputs)?,
            outputs: Rank::new(outputs)?,
        })
    }
}

/// Three convolutions in place of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Tucker2Factors<T> {
    /// Kernel of the first, 1×1 convolution: [R₁, S/g, 1, 1].
    pub first: Array4<T>,
    /// Kernel of the core, which takes over stride, padding and dilation: [R₂, R₁/g, Dh, Dw].
    pub core: Array4<T>,
    /// Kernel of the last, 1×1 convolution: [T, R₂/g, 1, 1].
    pub last: Array4<T>,
    /// The groups of all three.
    pub groups: usize,
    /// The relative error, of the response where there is a covariance, of the weights otherwise.
    pub relative_error: f64,
    /// Alternating sweeps run, the most of any group.
    pub sweeps: usize,
}

impl<T: Scalar> Tucker2Factors<T> {
    /// The kernel that the three convolutions have together: [T, S/g, Dh, Dw].
    pub fn reconstruct(&self) -> Array4<T> {
        let groups = self.groups;
        let chunks = |a: &'_ Array4<T>, group: usize| {
            let step = a.dim().0 / groups;
            a.slice(s![group * step..(group + 1) * step, .., .., ..])
                .to_owned()
        };
        let parts: Vec<_> = (0..groups)
            .map(|group| {
                let first = chunks(&self.first, group);
                let last = chunks(&self.last, group);
                let core = chunks(&self.core, group);
                let core = mix_inputs(core.view(), first.slice(s![.., .., 0, 0]), Threads::Serial);
                mix_outputs(last.slice(s![.., .., 0, 0]), core.view(), Threads::Serial)
            })
            .collect();
        stack(&parts)
    }
}

/// The largest ranks of the Tucker-2 form, (inputs, outputs) = (S, T), which reproduce the kernel.
pub fn tucker2_max_rank(shape: (usize, usize, usize, usize), groups: usize) -> (usize, usize) {
    (shape.1 * groups, shape.0)
}

/// The Tucker-2 form of a kernel [T, S/g, Dh, Dw] at ranks that g divides (Kim et al. 2016).
///
/// HOSVD, then HOOI (De Lathauwer et al. 2000): each basis in turn becomes the leading eigenvectors
/// of the kernel projected on the other one, until the error stops falling. A depthwise kernel is
/// refused.
pub fn tucker2<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    rank: Tucker2Rank,
    options: &ConvOptions<'_>,
    control: Control<'_>,
) -> Result<Tucker2Factors<T>> {
    let kernel = Kernel::new(kernel, options)?.refuse_depthwise("Tucker-2")?;
    let groups = prepare(&kernel)?;
    decompose(&kernel, &groups, rank, control)
}

/// The relative errors of [`tucker2`] at every pair of `ranks`.
///
/// Every pair is decomposed; what does not depend on the ranks is computed once.
pub fn tucker2_curve<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    ranks: &[Tucker2Rank],
    options: &ConvOptions<'_>,
    control: Control<'_>,
) -> Result<Vec<f64>> {
    let kernel = Kernel::new(kernel, options)?.refuse_depthwise("Tucker-2")?;
    let groups = prepare(&kernel)?;
    let error = |&rank| Ok(decompose(&kernel, &groups, rank, control)?.relative_error);
    ranks.iter().map(error).collect()
}

fn decompose<T: Scalar>(
    kernel: &Kernel<'_, T>,
    groups: &[Group<T>],
    rank: Tucker2Rank,
    control: Control<'_>,
) -> Result<Tucker2Factors<T>> {
    let (outputs, inputs, _, _) = kernel.group_dim();
    let inner = kernel.group_rank(rank.inputs, inputs, "Tucker-2 input")?;
    let outer = kernel.group_rank(rank.outputs, outputs, "Tucker-2 output")?;
    let parts: Vec<Parts<T>> = groups
        .iter()
        .map(|group| group.decompose(inner, outer, kernel, control))
        .collect::<Result<_>>()?;
    let share = Share::sum(parts.iter().map(|part| part.share));
    let gather = |of: fn(&Parts<T>) -> &Array4<T>| {
        stack(
            &parts
                .iter()
                .map(|part| of(part).clone())
                .collect::<Vec<_>>(),
        )
    };
    let mut factors = Tucker2Factors {
        first: gather(|part| &part.first),
        core: gather(|part| &part.core),
        last: gather(|part| &part.last),
        groups: kernel.options.groups,
        relative_error: share.relative(),
        sweeps: parts.iter().map(|part| part.sweeps).max().unwrap_or(0),
    };
    if kernel.options.covariance.is_some() || factors.relative_error.powi(2) < CANCELLATION * T::EPS
    {
        factors.relative_error = kernel.measure(&factors.reconstruct())?;
    }
    Ok(factors)
}

/// One group's kernel in the metric of its inputs, with the HOSVD bases at full rank.
struct Group<T> {
    kernel: Array4<T>,
    unit: f64,
    norm_sq: f64,
    metric: Option<KroneckerMetric>,
    outputs: Array2<T>,
    inputs: Array2<T>,
}

struct Parts<T> {
    first: Array4<T>,
    core: Array4<T>,
    last: Array4<T>,
    share: Share,
    sweeps: usize,
}

fn prepare<T: Scalar>(kernel: &Kernel<'_, T>) -> Result<Vec<Group<T>>> {
    let threads = kernel.threads();
    let (_, _, height, width) = kernel.group_dim();
    let group = |(index, weights): (usize, ArrayView4<'_, T>)| {
        let scaled = scale::moderate(weights);
        let metric = match kernel.options.covariance {
            Some(covariance) => Some(KroneckerMetric::joint(covariance, index, (height, width))?),
            None => None,
        };
        let whitened = match &metric {
            Some(metric) => metric.whiten(scaled.view(), threads),
            None => scaled.view().to_owned(),
        };
        Ok(Group {
            norm_sq: check::norm_sq(&whitened),
            outputs: leading(filters(whitened.view()).t(), threads)?,
            inputs: leading(by_inputs(whitened.view()).view(), threads)?,
            kernel: whitened,
            unit: scaled.unit(),
            metric,
        })
    };
    kernel.groups().into_iter().enumerate().map(group).collect()
}

impl<T: Scalar> Group<T> {
    fn decompose(
        &self,
        inner: usize,
        outer: usize,
        kernel: &Kernel<'_, T>,
        control: Control<'_>,
    ) -> Result<Parts<T>> {
        let threads = kernel.threads();
        let max_sweeps = kernel.options.max_sweeps;
        let mut inputs = self.inputs.slice(s![.., ..inner]).to_owned();
        let mut outputs = self.outputs.slice(s![.., ..outer]).to_owned();
        let mut core = self.core(outputs.view(), inputs.view(), threads);
        let mut error = self.share(&core).relative();
        let alternate = inner < self.inputs.nrows() && outer < self.outputs.nrows();
        let mut sweeps = 0;
        while alternate && sweeps < max_sweeps {
            let narrow = mix_inputs(self.kernel.view(), inputs.view(), threads);
            let basis = leading(filters(narrow.view()).t(), threads)?;
            outputs = basis.slice(s![.., ..outer]).to_owned();
            let narrow = mix_outputs(outputs.t(), self.kernel.view(), threads);
            let basis = leading(by_inputs(narrow.view()).view(), threads)?;
            inputs = basis.slice(s![.., ..inner]).to_owned();
            core = mix_inputs(narrow.view(), inputs.view(), threads);
            sweeps += 1;
            let before = std::mem::replace(&mut error, self.share(&core).relative());
            control.step(Progress {
                stage: "Tucker-2 HOOI",
                step: sweeps,
                max_steps: max_sweeps,
                relative_error: Some(error),
            })?;
            if before - error <= 1e-5 * before {
                break;
            }
        }
        control.check()?;
        Ok(self.finish(inputs, outputs, core, sweeps, threads))
    }

    fn core(
        &self,
        outputs: ArrayView2<'_, T>,
        inputs: ArrayView2<'_, T>,
        threads: Threads,
    ) -> Array4<T> {
        let narrow = mix_outputs(outputs.t(), self.kernel.view(), threads);
        mix_inputs(narrow.view(), inputs, threads)
    }

    /// What orthonormal bases with this core leave out: √(‖W‖² − ‖core‖²) of ‖W‖.
    fn share(&self, core: &Array4<T>) -> Share {
        let missed = (self.norm_sq - check::norm_sq(core)).max(0.0);
        Share::new(missed.sqrt() * self.unit, self.norm_sq.sqrt() * self.unit)
    }

    /// The parts in the kernel's own coordinates and scale.
    fn finish(
        &self,
        inputs: Array2<T>,
        outputs: Array2<T>,
        core: Array4<T>,
        sweeps: usize,
        threads: Threads,
    ) -> Parts<T> {
        let share = self.share(&core);
        let (inputs, core) = match &self.metric {
            None => (inputs, core),
            Some(metric) => (
                metric
                    .restore_channels(inputs.mapv(T::as_f64).view())
                    .mapv(T::from_f64),
                metric.restore_core(core.view(), threads),
            ),
        };
        Parts {
            first: pointwise(inputs.t()),
            core: (core * T::from_f64(self.unit))
                .as_standard_layout()
                .into_owned(),
            last: pointwise(outputs.view()),
            share,
            sweeps,
        }
    }
}

/// The eigenvectors of AᵀA, by falling eigenvalue, as columns.
fn leading<T: Scalar>(a: ArrayView2<'_, T>, threads: Threads) -> Result<Array2<T>> {
    let gram = blas::gram_f64(a, threads);
    Ok(dense::eigh(gram.view())?.1.mapv(T::from_f64))
}

/// A kernel [T, S, Dh, Dw] as a T·Dh·Dw×S matrix, row-major.
fn by_inputs<T: Scalar>(kernel: ArrayView4<'_, T>) -> Array2<T> {
    let (outputs, inputs, height, width) = kernel.dim();
    let last = kernel
        .permuted_axes([0, 2, 3, 1])
        .as_standard_layout()
        .into_owned();
    let matrix = last.into_shape_with_order((outputs * height * width, inputs));
    matrix.expect("invariant: a contiguous array has any shape of its length")
}

/// M·W along the output axis: [P, S, Dh, Dw] for M of P×T.
fn mix_outputs<T: Scalar>(
    mixer: ArrayView2<'_, T>,
    kernel: ArrayView4<'_, T>,
    threads: Threads,
) -> Array4<T> {
    let (_, inputs, height, width) = kernel.dim();
    let product = blas::dot(mixer, filters(kernel).view(), threads);
    let product = product.into_shape_with_order((mixer.nrows(), inputs, height, width));
    product.expect("invariant: filters keep their length")
}

/// W·M along the input axis: [T, P, Dh, Dw] for M of S×P.
fn mix_inputs<T: Scalar>(
    kernel: ArrayView4<'_, T>,
    mixer: ArrayView2<'_, T>,
    threads: Threads,
) -> Array4<T> {
    let (outputs, _, height, width) = kernel.dim();
    let product = blas::dot(by_inputs(kernel).view(), mixer, threads);
    let product = product.into_shape_with_order((outputs, height, width, mixer.ncols()));
    let product = product.expect("invariant: positions keep their number");
    product
        .permuted_axes([0, 3, 1, 2])
        .as_standard_layout()
        .into_owned()
}
