//! Linear layers: W (T×n) ≈ second (T×R) · first (R×n).

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use super::{ConvOptions, Kernel, Share};
use crate::blas;
use crate::control::Control;
use crate::dense;
use crate::error::Result;
use crate::rank::{Rank, Truncation};
use crate::scalar::Scalar;
use crate::scale;
use crate::spectrum::{Spectrum, spectrum};
use crate::svd::{Svd, SvdOptions, svd};
use crate::threads::Threads;
use crate::weighted::InputCovariance;

/// Two linear layers in place of one.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearFactors<T> {
    /// Weights of the first layer: R×n.
    pub first: Array2<T>,
    /// Weights of the second layer: T×R.
    pub second: Array2<T>,
    /// The relative error, of the response where there is a covariance, of the weights otherwise.
    pub relative_error: f64,
}

impl<T: Scalar> LinearFactors<T> {
    /// The weights that the two layers have together: T×n.
    pub fn reconstruct(&self) -> Array2<T> {
        blas::dot(self.second.view(), self.first.view(), Threads::Serial)
    }
}

/// The best rank-R factors of a linear layer's weights (T×n); `options.groups` must be 1.
///
/// Plain: the truncated SVD with its singular values split evenly. Data-aware: with the leading
/// eigenvectors U of W·C·Wᵀ, the factors (Uᵀ·W, U), the minimum of E‖(W − Ŵ)·x‖².
pub fn linear_svd<T: Scalar>(
    weights: ArrayView2<'_, T>,
    rank: Rank,
    options: &ConvOptions<'_>,
    control: Control<'_>,
) -> Result<LinearFactors<T>> {
    let kernel = Kernel::new(weights.insert_axis(Axis(2)).insert_axis(Axis(3)), options)?;
    let rank = kernel.group_rank(rank, weights.nrows().min(weights.ncols()), "linear")?;
    let (first, second, share) = project(weights, 0, rank, options, control)?;
    Ok(LinearFactors {
        first,
        second,
        relative_error: share.relative(),
    })
}

/// The relative errors of [`linear_svd`] at every rank of `ranks`, from one spectrum.
pub fn linear_curve<T: Scalar>(
    weights: ArrayView2<'_, T>,
    ranks: &[usize],
    options: &ConvOptions<'_>,
) -> Result<Vec<f64>> {
    super::channel_curve(
        weights.insert_axis(Axis(2)).insert_axis(Axis(3)),
        ranks,
        options,
    )
}

/// The rank-`rank` factors of one group's filters, and their share of the error.
pub(super) fn project<T: Scalar>(
    weights: ArrayView2<'_, T>,
    group: usize,
    rank: usize,
    options: &ConvOptions<'_>,
    control: Control<'_>,
) -> Result<(Array2<T>, Array2<T>, Share)> {
    let truncation = Truncation::rank(rank)?;
    let Some(covariance) = options.covariance else {
        let result = svd(weights, truncation, &options.svd, control)?;
        let whole = scale::norm(weights);
        let missed = result.relative_error * whole;
        let (mut second, mut first) = result.balanced();
        if rank == weights.nrows().min(weights.ncols()) {
            let factors = (&mut first, &mut second);
            restore(weights, &result, factors, options.svd.threads);
        }
        return Ok((first, second, Share::new(missed, whole)));
    };
    control.check()?;
    let wide = weights.mapv(T::as_f64);
    let basis = OutputBasis::new(wide.view(), covariance, group, rank, options, control)?;
    let leading = basis.vectors.slice(s![.., ..rank]);
    let first = blas::dot(leading.t(), wide.view(), options.svd.threads).mapv(T::from_f64);
    let second = leading.mapv(T::from_f64);
    Ok((first, second, basis.share(rank)))
}

/// Takes factors of full rank anew from the shorter side's singular vectors Q, first made orthonormal
/// to the last digit by a step of Newton and Schulz, Q·(3 − QᵀQ)/2: √σ·Qᵀ and W·Q/√σ, or Qᵀ·W/√σ and
/// Q·√σ. Their product is W, where a bidiagonal SVD in f32 leaves a hundred units of rounding. The
/// SVD's certificate holds for it all the more.
fn restore<T: Scalar>(
    weights: ArrayView2<'_, T>,
    svd: &Svd<T>,
    (first, second): (&mut Array2<T>, &mut Array2<T>),
    threads: Threads,
) {
    let least = svd.s.first().map_or(0.0, |s| s.as_f64()) * T::EPS;
    let wide = weights.nrows() < weights.ncols();
    let vectors = if wide { svd.u.view() } else { svd.vt.t() };
    let vectors = vectors.mapv(|x| x.as_f64());
    let mut step = blas::dot(vectors.t(), vectors.view(), threads);
    step.mapv_inplace(|x| -0.5 * x);
    step.diag_mut().mapv_inplace(|x| x + 1.5);
    let basis = blas::dot(vectors.view(), step.view(), threads).mapv(T::from_f64);
    let matrix = if wide { weights.t() } else { weights };
    let image = blas::dot(matrix, basis.view(), threads);
    for (j, &s) in svd.s.iter().enumerate().filter(|(_, s)| s.as_f64() > least) {
        let root = s.sqrt();
        let side = basis.column(j).mapv(|x| x * root);
        let image = image.column(j).mapv(|x| x / root);
        let (row, column) = if wide { (image, side) } else { (side, image) };
        first.row_mut(j).assign(&row);
        second.column_mut(j).assign(&column);
    }
}

/// The spectrum shares of one group's filters at each of `ranks`.
pub(super) fn shares<T: Scalar>(
    weights: ArrayView2<'_, T>,
    group: usize,
    ranks: &[usize],
    options: &ConvOptions<'_>,
    control: Control<'_>,
) -> Result<Vec<Share>> {
    let most = ranks.iter().copied().max().unwrap_or(0);
    if let Some(covariance) = options.covariance {
        let wide = weights.mapv(T::as_f64);
        let basis = OutputBasis::new(wide.view(), covariance, group, most, options, control)?;
        return Ok(ranks.iter().map(|&rank| basis.share(rank)).collect());
    }
    let spectrum = leading_spectrum(weights, most, &options.svd, control)?;
    let whole = spectrum.norm();
    Ok(ranks
        .iter()
        .map(|&rank| Share::new(spectrum.relative_error(rank) * whole, whole))
        .collect())
}

/// Whether `rank` is so far below `size` that finding all of a spectrum is the longer way.
fn is_narrow(rank: usize, size: usize) -> bool {
    size > 1024 && rank > 0 && rank <= size / 4
}

/// The spectrum of a matrix, at least as far as `rank`.
pub(super) fn leading_spectrum<T: Scalar>(
    matrix: ArrayView2<'_, T>,
    rank: usize,
    options: &SvdOptions,
    control: Control<'_>,
) -> Result<Spectrum> {
    control.check()?;
    if is_narrow(rank, matrix.nrows().min(matrix.ncols())) {
        return Ok(svd(matrix, Truncation::rank(rank)?, options, control)?.spectrum());
    }
    spectrum(matrix, options.threads)
}

/// The leading eigenvectors of W·(C + ridge)·Wᵀ, with the energy of the response along each of them.
struct OutputBasis {
    vectors: Array2<f64>,
    energies: Array1<f64>,
    /// The energy of the response along all other directions.
    rest: f64,
}

impl OutputBasis {
    /// A basis of at least `rank` directions.
    fn new(
        weights: ArrayView2<'_, f64>,
        covariance: &InputCovariance,
        group: usize,
        rank: usize,
        options: &ConvOptions<'_>,
        control: Control<'_>,
    ) -> Result<Self> {
        let threads = options.svd.threads;
        let (exact, ridged) = covariance.output_moments(group, weights, threads);
        control.check()?;
        let narrow = is_narrow(rank, ridged.nrows());
        let vectors = if narrow {
            svd(
                ridged.view(),
                Truncation::rank(rank)?,
                &options.svd,
                control,
            )?
            .u
        } else {
            dense::eigh(ridged.view())?.1
        };
        let turned = blas::dot(exact.view(), vectors.view(), threads);
        // The ridge only orders directions; the energies are those of the response itself.
        let energies = (&turned * &vectors).sum_axis(Axis(0)).mapv(|x| x.max(0.0));
        let rest = if narrow {
            (exact.diag().sum() - energies.sum()).max(0.0)
        } else {
            0.0
        };
        Ok(Self {
            vectors,
            energies,
            rest,
        })
    }

    /// What the leading `rank` directions leave of the response.
    fn share(&self, rank: usize) -> Share {
        let rank = rank.min(self.energies.len());
        let sum = |from: f64, energies: ArrayView1<'_, f64>| {
            energies.iter().rev().fold(from, |sum, x| sum + x)
        };
        let missed = sum(self.rest, self.energies.slice(s![rank..]));
        let whole = sum(missed, self.energies.slice(s![..rank]));
        Share::new(missed.sqrt(), whole.sqrt())
    }
}
