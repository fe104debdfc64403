//! Block Krylov: Rayleigh–Ritz on span{V, AᵀA·V, (AᵀA)²·V, …}.
//!
//! Block Golub–Kahan–Lanczos with full reorthogonalisation (Golub, Luk and Overton 1981; the bounds
//! of Musco and Musco 2015 apply). Two products with A a step; everything else is narrow.

use ndarray::{Array1, Array2, ArrayView2, Axis, ShapeBuilder, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{Problem, Svd, SvdMethod, exact};
use crate::blas;
use crate::control::Progress;
use crate::dense;
use crate::error::Result;
use crate::rank::Truncation;
use crate::scalar::Scalar;
use crate::spectrum::Spectrum;
use crate::threads::Threads;

/// The SVD from a Krylov basis grown until the certified error stops falling.
///
/// Where the basis would pass three quarters of the columns, the Gram method is cheaper and is used
/// instead.
pub(super) fn solve<T: Scalar>(problem: &Problem<'_, T>, truncation: Truncation) -> Result<Svd<T>> {
    let cols = problem.cols();
    let most = cols * 3 / 4;
    let mut basis = Basis::start(problem, block_size(truncation, cols));
    let mut watch = Convergence::default();
    loop {
        basis.project(problem);
        let spectrum = basis.spectrum(problem)?;
        let rank = rank_within(&spectrum, truncation, basis.cols());
        let error = rank.map(|rank| spectrum.relative_error(rank));
        problem.control.step(Progress {
            stage: "block Krylov",
            step: basis.steps,
            max_steps: most.div_ceil(basis.block),
            relative_error: error,
        })?;
        if let (Some(rank), Some(error)) = (rank, error)
            && watch.converged::<T>(rank, error, problem.options.excess)
        {
            return basis.finish(problem, rank);
        }
        if basis.cols() + basis.block > most {
            return exact::by_gram(problem, truncation);
        }
        basis.grow(problem);
    }
}

/// Narrow blocks need fewer columns in all, wide ones run faster a column; a quarter of the rank is
/// within a few percent of the best from r = 16 to 500.
fn block_size(truncation: Truncation, cols: usize) -> usize {
    let wanted = match truncation {
        Truncation::Rank(rank) => rank.get() / 4,
        Truncation::Tolerance(_) => cols / 64,
    };
    wanted.next_multiple_of(16).clamp(16, 128).min(cols)
}

fn rank_within(spectrum: &Spectrum, truncation: Truncation, known: usize) -> Option<usize> {
    match truncation {
        Truncation::Rank(rank) => (rank.get() <= known).then_some(rank.get()),
        Truncation::Tolerance(tolerance) => spectrum.rank_for(tolerance),
    }
}

/// When to stop: the gains of successive steps shrink geometrically, so with the last gain g and
/// the ratio ρ to the one before, ρ·g/(1 − ρ) is still to come.
#[derive(Default)]
struct Convergence {
    last: Option<(usize, f64)>,
    last_gain: Option<f64>,
}

impl Convergence {
    fn converged<T: Scalar>(&mut self, rank: usize, error: f64, excess: f64) -> bool {
        let before = self.last.replace((rank, error));
        if error * error <= 4.0 * T::EPS * T::EPS {
            return true;
        }
        let Some((_, last_error)) = before.filter(|&(last_rank, _)| last_rank == rank) else {
            self.last_gain = None;
            return false;
        };
        let gain = (last_error - error).max(0.0);
        let Some(last_gain) = self.last_gain.replace(gain) else {
            return gain <= T::EPS * error;
        };
        let ratio = if last_gain > 0.0 {
            (gain / last_gain).min(0.9)
        } else {
            0.0
        };
        gain * ratio / (1.0 - ratio) <= excess * error
    }
}

/// An orthonormal basis V of the row space, its image A·V and (A·V)ᵀ(A·V).
struct Basis<T> {
    block: usize,
    steps: usize,
    v: Array2<T>,
    image: Array2<T>,
    gram: Array2<f64>,
}

impl<T: Scalar> Basis<T> {
    fn start(problem: &Problem<'_, T>, block: usize) -> Self {
        let (rows, cols) = problem.a.dim();
        let mut rng = ChaCha8Rng::seed_from_u64(problem.options.seed);
        let start = Array2::from_shape_simple_fn((cols, block), || {
            let x: f64 = StandardNormal.sample(&mut rng);
            T::from_f64(x)
        });
        Self {
            block,
            steps: 0,
            v: dense::orthonormal_basis(start.view()),
            image: Array2::zeros((rows, 0).f()),
            gram: Array2::zeros((0, 0)),
        }
    }

    fn cols(&self) -> usize {
        self.v.ncols()
    }

    /// Appends A·V for the newest block, and its inner products.
    fn project(&mut self, problem: &Problem<'_, T>) {
        let threads = problem.options.threads;
        let known = self.image.ncols();
        let newest = self.v.slice(s![.., known..]);
        let image = columns(problem.a, newest, threads);
        append(&mut self.image, image.view());
        let products = blas::dot(image.t(), self.image.view(), threads);
        let mut gram = Array2::zeros((self.cols(), self.cols()));
        gram.slice_mut(s![..known, ..known]).assign(&self.gram);
        gram.slice_mut(s![known.., ..])
            .assign(&products.mapv(T::as_f64));
        self.gram = gram;
        self.steps += 1;
    }

    /// The Ritz values, which are squared singular values of A on the basis.
    fn spectrum(&self, problem: &Problem<'_, T>) -> Result<Spectrum> {
        let values: Vec<f64> = dense::eigenvalues(self.gram.view())?
            .iter()
            .map(|x| x.max(0.0))
            .collect();
        let captured: f64 = values.iter().sum();
        Ok(Spectrum::new(values, problem.norm_sq - captured, 1.0))
    }

    /// Appends a block: Aᵀ·(A·V) for the newest V, made orthonormal to all before it.
    fn grow(&mut self, problem: &Problem<'_, T>) {
        let threads = problem.options.threads;
        let newest = self.image.slice(s![.., self.cols() - self.block..]);
        let mut next = columns(problem.a.t(), newest, threads);
        self.remove_span(&mut next, threads);
        let mut next = dense::orthonormal_basis(next.view());
        // Twice is enough: what vanished under the first projection came back as rounding.
        self.remove_span(&mut next, threads);
        append(&mut self.v, dense::orthonormal_basis(next.view()).view());
    }

    /// X ← (I − V·Vᵀ)·X.
    fn remove_span(&self, x: &mut Array2<T>, threads: Threads) {
        let inside = blas::dot(self.v.t(), x.view(), threads);
        blas::gemm(
            -T::one(),
            self.v.view(),
            inside.view(),
            true,
            x.view_mut(),
            threads,
        );
    }

    /// The leading Ritz triples.
    fn finish(self, problem: &Problem<'_, T>, rank: usize) -> Result<Svd<T>> {
        let threads = problem.options.threads;
        let (_, rotation) = dense::eigh(self.gram.view())?;
        let rotation = rotation.slice(s![.., ..rank]).mapv(T::from_f64);
        let basis = blas::dot(self.v.view(), rotation.view(), threads);
        let image = blas::dot(self.image.view(), rotation.view(), threads);
        let (u, s, vt): (Array2<T>, Array1<T>, Array2<T>) =
            exact::rayleigh_ritz(image.view(), basis.view(), problem)?;
        let relative_error = problem.certify(&u, &s, &vt);
        let passes = 2 * self.steps - 1;
        Ok(Svd {
            u,
            s,
            vt,
            relative_error,
            method: SvdMethod::Krylov,
            passes,
        })
    }
}

/// A·X with columns contiguous.
fn columns<T: Scalar>(a: ArrayView2<'_, T>, x: ArrayView2<'_, T>, threads: Threads) -> Array2<T> {
    let mut out = Array2::zeros((a.nrows(), x.ncols()).f());
    blas::gemm(T::one(), a, x, false, out.view_mut(), threads);
    out
}

fn append<T: Scalar>(to: &mut Array2<T>, columns: ArrayView2<'_, T>) {
    to.append(Axis(1), columns)
        .expect("invariant: blocks have as many rows as the basis");
}
