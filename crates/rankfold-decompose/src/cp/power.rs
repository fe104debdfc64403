//! The tensor power method: rank-one terms one after another, each fitted to what the ones before left.
//!
//! The residual W − Σ λ_j a_j∘b_j∘c_j is never formed. Its products are those of W less the share of
//! the terms so far, which small inner products give: the product with b and c, for example, is
//! that of W less A·(λ ∘ Bᵀb ∘ Cᵀc).
//!
//! One pass reads W once. With b and c given, a block of rows of a = Σ_k c_k·W_k·b is finished as
//! soon as that block of W has been read, and its part of z_k = W_kᵀ·a follows while the block is
//! still in the cache; a's normalisation is a factor that can come later. All candidates for the
//! next term are carried side by side, so that the products are matrix products.

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis, Zip, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::blas::{dot, gemm, gram};
use crate::control::{Control, Progress};
use crate::cp::factors::{Factors, Spatial};
use crate::cp::options::{CpForm, Power, PowerMode};
use crate::cp::start::gaussian;
use crate::cp::tensor::Slices;
use crate::dense::eigh;
use crate::error::Result;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// The decomposition by the first terms.
pub(crate) struct PowerPoint {
    pub(crate) factors: Factors,
    pub(crate) relative_error: f64,
    /// Passes over W so far.
    pub(crate) passes: usize,
}

/// The decompositions at every rank of `ranks` (ascending), from one run: the terms are nested.
pub(crate) fn power<T: Scalar>(
    w: &Slices<T>,
    ranks: &[usize],
    form: CpForm,
    settings: &Power,
    seed: u64,
    threads: Threads,
    control: Control<'_>,
) -> Result<Vec<PowerPoint>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let most = ranks.last().copied().unwrap_or(0);
    let mut terms = Terms::new(w, form, most);
    let mut pool = Candidates::random(w, form, settings.restarts, &mut rng);
    let mut points = Vec::with_capacity(ranks.len());
    let mut passes = 0;
    for rank in 1..=most {
        let mut score = 0.0;
        for pass in 0..settings.passes {
            passes += 1;
            let before = score;
            score = match settings.mode {
                PowerMode::Faithful => pool.coordinate_pass(w, &terms, threads),
                PowerMode::Joint => pool.joint_pass(w, &terms, threads)?,
            };
            let settled = score - before <= SETTLED * score;
            if settings.mode == PowerMode::Joint && pass > 0 && settled {
                break;
            }
        }
        let best = pool.best();
        terms.push(&pool, best, settings.mode);
        match settings.mode {
            PowerMode::Faithful => pool = Candidates::random(w, form, settings.restarts, &mut rng),
            PowerMode::Joint => pool.renew(w, best, &mut rng),
        }
        for _ in ranks.iter().filter(|&&r| r == rank) {
            points.push(PowerPoint {
                factors: terms.factors(),
                relative_error: terms.error(),
                passes,
            });
        }
        control.step(Progress {
            stage: "CP power method",
            step: rank,
            max_steps: most,
            relative_error: Some(terms.error()),
        })?;
    }
    Ok(points)
}

/// A term is settled when a pass raises its score by less than this, relatively.
const SETTLED: f64 = 3e-4;
/// Bytes of W that one block of rows may have: about half a core's second-level cache.
const BLOCK_BYTES: usize = 1 << 19;
/// Squared sine of the least angle between a term and the span of those before it.
const DEPENDENT: f64 = 1e-10;

/// Unit vectors of the candidates for the next term, one a column, and their scores.
struct Candidates {
    a: Array2<f64>,
    b: Array2<f64>,
    spatial: Spatial,
    /// ⟨residual, a∘b∘c⟩.
    scores: Vec<f64>,
}

impl Candidates {
    fn random<T: Scalar>(w: &Slices<T>, form: CpForm, count: usize, rng: &mut ChaCha8Rng) -> Self {
        let (taps, outputs, inputs) = w.dim();
        let mut unit = |rows: usize| normalised(gaussian(rows, count, rng)).0;
        Self {
            a: Array2::zeros((outputs, count)),
            b: unit(inputs),
            spatial: match form {
                CpForm::FourWay => Spatial::Split(unit(w.taps.0), unit(w.taps.1)),
                _ => Spatial::Joint(unit(taps)),
            },
            scores: vec![0.0; count],
        }
    }

    fn best(&self) -> usize {
        let by_size = |&i: &usize, &j: &usize| {
            self.scores[i]
                .abs()
                .total_cmp(&self.scores[j].abs())
                .then(j.cmp(&i))
        };
        (0..self.scores.len()).max_by(by_size).unwrap_or(0)
    }

    /// Replaces the candidate at `used` by a random one; the others go on as they are.
    fn renew<T: Scalar>(&mut self, w: &Slices<T>, used: usize, rng: &mut ChaCha8Rng) {
        let form = match self.spatial {
            Spatial::Joint(_) => CpForm::ThreeWay,
            Spatial::Split(..) => CpForm::FourWay,
        };
        let mut fresh = Self::random(w, form, 1, rng);
        let from = fresh.spatial.parts_mut();
        for (part, fresh) in self.spatial.parts_mut().into_iter().zip(from) {
            part.column_mut(used).assign(&fresh.column(0));
        }
        self.b.column_mut(used).assign(&fresh.b.column(0));
    }

    /// One pass of coordinate descent, steps i to iii of Algorithm 1; the largest score after it.
    fn coordinate_pass<T: Scalar>(
        &mut self,
        w: &Slices<T>,
        terms: &Terms,
        threads: Threads,
    ) -> f64 {
        let c = self.spatial.taps();
        let by_c = terms.along_taps(&c);
        let share = terms.weighted(&(&terms.along_inputs(&self.b) * &by_c));
        let (a, z) = read(w, &self.b, &c, terms, &share, threads);
        let (a, norms) = normalised(a);
        self.a = a;
        let by_a = terms.weighted(&terms.along_outputs(&self.a));
        for (q, norm) in norms.iter().enumerate() {
            let z = z
                .slice(s![.., .., q])
                .mapv(|x| x / norm.max(f64::MIN_POSITIVE));
            let by_a = by_a.column(q);
            let mut b = z.t().dot(&c.column(q));
            b -= &terms.inputs().t().dot(&(&by_a * &by_c.column(q)));
            unit(&mut b);
            let mut products = z.dot(&b);
            let by_b = terms.inputs().dot(&b);
            products -= &terms.taps().t().dot(&(&by_a * &by_b));
            self.b.column_mut(q).assign(&b);
            self.scores[q] = self.spatial.fit(q, products.view());
        }
        self.scores.iter().fold(0.0, |m, s| m.max(s.abs()))
    }

    /// One pass that finds the best b and c for every a together, the leading singular pair of the
    /// K×S matrix of z_k; the largest score after it.
    fn joint_pass<T: Scalar>(
        &mut self,
        w: &Slices<T>,
        terms: &Terms,
        threads: Threads,
    ) -> Result<f64> {
        let c = self.spatial.taps();
        let share = terms.weighted(&(&terms.along_inputs(&self.b) * &terms.along_taps(&c)));
        let (a, z) = read(w, &self.b, &c, terms, &share, threads);
        let (a, norms) = normalised(a);
        self.a = a;
        let by_a = terms.weighted(&terms.along_outputs(&self.a));
        for (q, norm) in norms.iter().enumerate() {
            let mut z = z
                .slice(s![.., .., q])
                .mapv(|x| x / norm.max(f64::MIN_POSITIVE));
            let scaled = &terms.taps().t() * &by_a.column(q);
            gemm(
                -1.0,
                scaled.view(),
                terms.inputs(),
                true,
                z.view_mut(),
                Threads::Serial,
            );
            let (mut b, mut score) = self.spatial.lead(q, &z)?;
            if score <= 0.0 {
                b.fill(0.0);
                score = 0.0;
            }
            self.b.column_mut(q).assign(&b);
            self.scores[q] = score;
        }
        Ok(self.scores.iter().fold(0.0, |m, s| m.max(s.abs())))
    }
}

/// a = Σ_k c_k·W_k·b less the share of the terms (T×Q), and z_k = W_kᵀ·a (K×S×Q), for every candidate.
fn read<T: Scalar>(
    w: &Slices<T>,
    b: &Array2<f64>,
    c: &Array2<f64>,
    terms: &Terms,
    share: &Array2<f64>,
    threads: Threads,
) -> (Array2<f64>, Array3<f64>) {
    let (taps, outputs, inputs) = w.dim();
    let count = b.ncols();
    let row_bytes = taps * inputs * size_of::<T>();
    let rows = (BLOCK_BYTES / row_bytes).clamp(8, outputs.div_ceil(4).max(8));
    let b = b.mapv(T::from_f64);
    let mut a = Array2::<f64>::zeros((outputs, count));
    let blocks = a.axis_chunks_iter_mut(Axis(0), rows).enumerate().collect();
    let sums = threads.map(
        blocks,
        |(i, mut a): (usize, ndarray::ArrayViewMut2<'_, f64>)| {
            let range = i * rows..i * rows + a.nrows();
            let known = terms.outputs();
            gemm(
                -1.0,
                known.slice(s![.., range.clone()]).t(),
                share.view(),
                false,
                a.view_mut(),
                Threads::Serial,
            );
            let block = w.values().slice_move(s![.., range, ..]);
            let mut y = Array2::<T>::zeros((a.nrows(), count));
            for (w, c) in block.outer_iter().zip(c.outer_iter()) {
                gemm(T::one(), w, b.view(), false, y.view_mut(), Threads::Serial);
                for (mut a, y) in a.outer_iter_mut().zip(y.outer_iter()) {
                    Zip::from(&mut a)
                        .and(&y)
                        .and(&c)
                        .for_each(|a, y, c| *a += y.as_f64() * c);
                }
            }
            let a = a.mapv(T::from_f64);
            let mut z = Array3::<T>::zeros((taps, inputs, count));
            for (w, z) in block.outer_iter().zip(z.outer_iter_mut()) {
                gemm(T::one(), w.t(), a.view(), false, z, Threads::Serial);
            }
            z
        },
    );
    let mut z = Array3::<f64>::zeros((taps, inputs, count));
    for part in &sums {
        z.zip_mut_with(part, |z, x| *z += x.as_f64());
    }
    (a, z)
}

/// The terms found so far, as rows of unit vectors.
struct Terms {
    a: Array2<f64>,
    b: Array2<f64>,
    c: Array2<f64>,
    split: Option<(Array2<f64>, Array2<f64>)>,
    lambda: Vec<f64>,
    /// ‖W‖² less what the terms explain, and ‖W‖².
    rest: f64,
    norm_sq: f64,
    /// L with L·Lᵀ the Gram matrix of the terms, and L⁻¹ times their products with W (joint mode).
    lower: Array2<f64>,
    forward: Vec<f64>,
}

impl Terms {
    fn new<T: Scalar>(w: &Slices<T>, form: CpForm, capacity: usize) -> Self {
        let (taps, outputs, inputs) = w.dim();
        let rows = |len: usize| Array2::zeros((capacity, len));
        Self {
            a: rows(outputs),
            b: rows(inputs),
            c: rows(taps),
            split: (form == CpForm::FourWay).then(|| (rows(w.taps.0), rows(w.taps.1))),
            lambda: Vec::new(),
            rest: w.norm_sq,
            norm_sq: w.norm_sq,
            lower: rows(capacity),
            forward: Vec::new(),
        }
    }

    fn outputs(&self) -> ArrayView2<'_, f64> {
        self.a.slice(s![..self.lambda.len(), ..])
    }

    fn inputs(&self) -> ArrayView2<'_, f64> {
        self.b.slice(s![..self.lambda.len(), ..])
    }

    fn taps(&self) -> ArrayView2<'_, f64> {
        self.c.slice(s![..self.lambda.len(), ..])
    }

    fn along_outputs(&self, a: &Array2<f64>) -> Array2<f64> {
        dot(self.outputs(), a.view(), Threads::Serial)
    }

    fn along_inputs(&self, b: &Array2<f64>) -> Array2<f64> {
        dot(self.inputs(), b.view(), Threads::Serial)
    }

    fn along_taps(&self, c: &Array2<f64>) -> Array2<f64> {
        dot(self.taps(), c.view(), Threads::Serial)
    }

    /// λ ∘ every column.
    fn weighted(&self, columns: &Array2<f64>) -> Array2<f64> {
        let mut out = columns.clone();
        for (mut row, &l) in out.outer_iter_mut().zip(&self.lambda) {
            row *= l;
        }
        out
    }

    /// Takes a candidate as the next term.
    ///
    /// The faithful mode deflates: d_k is the candidate's score, and the error falls by d_k². The
    /// joint mode refits all λ: with N = L·Lᵀ the terms' Gram matrix and h their products with W,
    /// N·λ = h, and the error falls by the square of the new entry of L⁻¹h.
    fn push(&mut self, pool: &Candidates, best: usize, mode: PowerMode) {
        let count = self.lambda.len();
        let c = pool.spatial.taps();
        let (a, b, c) = (pool.a.column(best), pool.b.column(best), c.column(best));
        let score = pool.scores[best];
        let overlaps = self.outputs().dot(&a) * self.inputs().dot(&b) * self.taps().dot(&c);
        self.a.row_mut(count).assign(&a);
        self.b.row_mut(count).assign(&b);
        self.c.row_mut(count).assign(&c);
        if let (Some((h, v)), Spatial::Split(high, wide)) = (&mut self.split, &pool.spatial) {
            h.row_mut(count).assign(&high.column(best));
            v.row_mut(count).assign(&wide.column(best));
        }
        let product = score + Array1::from_vec(self.lambda.clone()).dot(&overlaps);
        self.lambda.push(score);
        if mode == PowerMode::Faithful {
            self.rest -= score * score;
            return;
        }
        let mut square = 1.0;
        let mut forward = product;
        for j in 0..count {
            let known = self
                .lower
                .slice(s![j, ..j])
                .dot(&self.lower.slice(s![count, ..j]));
            let entry = (overlaps[j] - known) / self.lower[[j, j]];
            self.lower[[count, j]] = entry;
            square -= entry * entry;
            forward -= entry * self.forward[j];
        }
        let pivot = square.max(DEPENDENT).sqrt();
        self.lower[[count, count]] = pivot;
        let forward = if square > DEPENDENT {
            forward / pivot
        } else {
            0.0
        };
        self.forward.push(forward);
        self.rest -= forward * forward;
        for j in (0..=count).rev() {
            let later: f64 = (j + 1..=count)
                .map(|i| self.lower[[i, j]] * self.lambda[i])
                .sum();
            self.lambda[j] = (self.forward[j] - later) / self.lower[[j, j]];
        }
    }

    fn error(&self) -> f64 {
        (self.rest.max(0.0) / self.norm_sq).sqrt()
    }

    fn factors(&self) -> Factors {
        let count = self.lambda.len();
        let mut a = self.outputs().t().to_owned();
        for (mut column, &l) in a.columns_mut().into_iter().zip(&self.lambda) {
            column *= l;
        }
        let spatial = match &self.split {
            Some((h, v)) => Spatial::Split(
                h.slice(s![..count, ..]).t().to_owned(),
                v.slice(s![..count, ..]).t().to_owned(),
            ),
            None => Spatial::Joint(self.taps().t().to_owned()),
        };
        let mut factors = Factors {
            a,
            b: self.inputs().t().to_owned(),
            spatial,
        };
        factors.balance();
        factors
    }
}

impl Spatial {
    /// Fits column `q` to its product with the residual, one coordinate after the other; the score.
    fn fit(&mut self, q: usize, product: ArrayView1<'_, f64>) -> f64 {
        match self {
            Self::Joint(c) => {
                let mut column = product.to_owned();
                let score = unit(&mut column);
                c.column_mut(q).assign(&column);
                score
            }
            Self::Split(h, v) => {
                let shape = (h.nrows(), v.nrows());
                let taps = product.into_shape_with_order(shape);
                let taps = taps.expect("invariant: one product for every tap");
                let mut column = taps.dot(&v.column(q));
                unit(&mut column);
                h.column_mut(q).assign(&column);
                let mut column = taps.t().dot(&column);
                let score = unit(&mut column);
                v.column_mut(q).assign(&column);
                score
            }
        }
    }

    /// Sets column `q` to the spatial half of the best rank-one approximation of `z` (K×S); its
    /// other half, of unit norm, and its norm.
    fn lead(&mut self, q: usize, z: &Array2<f64>) -> Result<(Array1<f64>, f64)> {
        let mut taps = leading_left(z.view())?;
        if let Self::Joint(c) = self {
            c.column_mut(q).assign(&taps);
        }
        if let Self::Split(h, v) = self {
            for _ in 0..SPLIT_ROUNDS {
                let shape = (h.nrows(), v.nrows());
                let square = taps.view().into_shape_with_order(shape);
                let square = square.expect("invariant: one entry for every tap");
                let high = leading_left(square)?;
                let mut wide = square.t().dot(&high);
                unit(&mut wide);
                let separable = Array1::from_shape_fn(z.nrows(), |k| {
                    high[k / wide.len()] * wide[k % wide.len()]
                });
                h.column_mut(q).assign(&high);
                v.column_mut(q).assign(&wide);
                let mut b = z.t().dot(&separable);
                let score = unit(&mut b);
                taps = z.dot(&b);
                if score == 0.0 {
                    break;
                }
            }
            let separable = self.taps().column(q).to_owned();
            let mut b = z.t().dot(&separable);
            let score = unit(&mut b);
            return Ok((b, score));
        }
        let mut b = z.t().dot(&taps);
        let score = unit(&mut b);
        Ok((b, score))
    }
}

/// Alternations between the separable taps and the rest of a four-way term.
const SPLIT_ROUNDS: usize = 3;

/// The leading left singular vector, from the Gram matrix of the shorter side.
fn leading_left(z: ArrayView2<'_, f64>) -> Result<Array1<f64>> {
    if z.nrows() <= z.ncols() {
        let (_, vectors) = eigh(gram(z.t(), Threads::Serial).view())?;
        return Ok(vectors.column(0).to_owned());
    }
    let (_, vectors) = eigh(gram(z, Threads::Serial).view())?;
    let mut left = z.dot(&vectors.column(0));
    if unit(&mut left) == 0.0 {
        left[0] = 1.0;
    }
    Ok(left)
}

/// Scales a vector to unit norm; the norm it had. A zero vector stays zero.
fn unit(x: &mut Array1<f64>) -> f64 {
    let norm = x.dot(x).sqrt();
    if norm > 0.0 {
        *x /= norm;
    }
    norm
}

/// The columns scaled to unit norm, and the norms they had.
fn normalised(mut x: Array2<f64>) -> (Array2<f64>, Vec<f64>) {
    let mut norms = Vec::with_capacity(x.ncols());
    for mut column in x.columns_mut() {
        let norm = column.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 0.0 {
            column /= norm;
        }
        norms.push(norm);
    }
    (x, norms)
}
