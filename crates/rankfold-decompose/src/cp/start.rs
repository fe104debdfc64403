//! Starting points of the alternating least squares, and the exact factors at full rank.

use ndarray::linalg::kron;
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::blas::{dot, gram};
use crate::cp::CpForm;
use crate::cp::factors::{Factors, Spatial};
use crate::cp::tensor::Slices;
use crate::dense::{eigh, thin_svd};
use crate::error::Result;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// The leading eigenvectors of the kernel's channel Grams, largest eigenvalue first.
pub(crate) struct ChannelBases<T> {
    pub(crate) outputs: Array2<T>,
    pub(crate) inputs: Array2<T>,
}

impl<T: Scalar> ChannelBases<T> {
    /// The first `outputs` and `inputs` eigenvectors of Σ W_k·W_kᵀ and Σ W_kᵀ·W_k.
    pub(crate) fn new(
        w: &Slices<T>,
        outputs: usize,
        inputs: usize,
        threads: Threads,
    ) -> Result<Self> {
        let (left, right) = w.channel_grams(threads);
        let jobs = vec![(left, outputs), (right, inputs)];
        let mut bases = threads
            .map(jobs, |(gram, keep)| -> Result<Array2<T>> {
                let (_, vectors) = eigh(gram.view())?;
                Ok(vectors
                    .slice(s![.., ..keep.min(vectors.ncols())])
                    .to_owned())
            })
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let inputs = bases.pop().expect("invariant: two jobs, two bases");
        let outputs = bases.pop().expect("invariant: two jobs, two bases");
        Ok(Self { outputs, inputs })
    }
}

/// Slice SVD: the taps are rotated onto the eigenvectors of their Gram matrix, every rotated slice
/// is decomposed by SVD, and the `rank` strongest triples overall are kept.
///
/// In the four-way form the rotation is the Kronecker product of one for each direction.
pub(crate) fn slices<T: Scalar>(
    w: &Slices<T>,
    rank: usize,
    form: CpForm,
    threads: Threads,
) -> Result<Factors> {
    let rotation = tap_rotation(w, form, threads)?;
    let taps = match &rotation {
        Spatial::Joint(c) => c.clone(),
        Spatial::Split(h, v) => kron(h, v),
    };
    let rotated = dot(taps.mapv(T::from_f64).t(), w.rows(), threads);
    let (_, outputs, inputs) = w.dim();
    let slices: Vec<ArrayView2<'_, T>> = rotated
        .outer_iter()
        .map(|row| row.into_shape_with_order((outputs, inputs)))
        .collect::<std::result::Result<_, _>>()
        .expect("invariant: a row is contiguous and holds one slice");
    let decomposed = threads
        .map(slices, |slice| leading_triples(slice, rank))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    Ok(assemble(&decomposed, &rotation, rank))
}

/// Factors of which every slice is reproduced exactly: one SVD for every tap.
///
/// The rank is K·min(T, S), padded with zero terms up to `rank`.
pub(crate) fn exact<T: Scalar>(
    w: &Slices<T>,
    rank: usize,
    form: CpForm,
    threads: Threads,
) -> Result<Factors> {
    let rotation = match form {
        CpForm::FourWay => Spatial::Split(Array2::eye(w.taps.0), Array2::eye(w.taps.1)),
        _ => Spatial::Joint(Array2::eye(w.dim().0)),
    };
    let slices = w.values().into_outer_iter().collect();
    let decomposed = threads
        .map(slices, |slice: ArrayView2<'_, T>| {
            let svd = thin_svd(slice.mapv(Scalar::as_f64).view())?;
            Ok(Triples {
                u: svd.u,
                s: svd.s,
                vt: svd.vt,
            })
        })
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    Ok(assemble(&decomposed, &rotation, rank))
}

/// HOSVD: leading eigenvectors of the three (or four) mode Grams; modes with fewer than `rank` of
/// them are filled up with Gaussian columns.
pub(crate) fn hosvd<T: Scalar>(
    w: &Slices<T>,
    rank: usize,
    form: CpForm,
    seed: u64,
    threads: Threads,
) -> Result<Factors> {
    let bases = ChannelBases::new(w, rank, rank, threads)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let a = fill(bases.outputs.mapv(Scalar::as_f64), rank, &mut rng);
    let b = fill(bases.inputs.mapv(Scalar::as_f64), rank, &mut rng);
    let spatial = match tap_rotation(w, form, threads)? {
        Spatial::Joint(c) => Spatial::Joint(fill(c, rank, &mut rng)),
        Spatial::Split(h, v) => Spatial::Split(fill(h, rank, &mut rng), fill(v, rank, &mut rng)),
    };
    Ok(Factors { a, b, spatial })
}

/// Gaussian factors.
pub(crate) fn random<T: Scalar>(w: &Slices<T>, rank: usize, form: CpForm, seed: u64) -> Factors {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (taps, outputs, inputs) = w.dim();
    let mut normal = |rows: usize| gaussian(rows, rank, &mut rng);
    Factors {
        a: normal(outputs),
        b: normal(inputs),
        spatial: match form {
            CpForm::FourWay => Spatial::Split(normal(w.taps.0), normal(w.taps.1)),
            _ => Spatial::Joint(normal(taps)),
        },
    }
}

/// Independent standard Gaussian entries.
pub(crate) fn gaussian(rows: usize, cols: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    Array2::from_shape_simple_fn((rows, cols), || StandardNormal.sample(rng))
}

/// The first `rank` columns of `basis`, with Gaussian columns of about unit norm behind them.
fn fill(basis: Array2<f64>, rank: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let rows = basis.nrows();
    let known = basis.ncols().min(rank);
    let mut out = gaussian(rows, rank, rng) / (rows as f64).sqrt();
    out.slice_mut(s![.., ..known])
        .assign(&basis.slice(s![.., ..known]));
    out
}

/// Orthogonal rotations of the taps onto the eigenvectors of their Gram matrix.
fn tap_rotation<T: Scalar>(w: &Slices<T>, form: CpForm, threads: Threads) -> Result<Spatial> {
    let taps = gram(w.rows().t(), threads).mapv(Scalar::as_f64);
    if form != CpForm::FourWay {
        return Ok(Spatial::Joint(eigh(taps.view())?.1));
    }
    let (height, width) = w.taps;
    let mut rows = Array2::zeros((height, height));
    let mut cols = Array2::zeros((width, width));
    for ((k, l), x) in taps.indexed_iter() {
        if k % width == l % width {
            rows[[k / width, l / width]] += x;
        }
        if k / width == l / width {
            cols[[k % width, l % width]] += x;
        }
    }
    Ok(Spatial::Split(eigh(rows.view())?.1, eigh(cols.view())?.1))
}

/// Singular triples of one slice.
struct Triples {
    u: Array2<f64>,
    s: Array1<f64>,
    vt: Array2<f64>,
}

/// The leading singular triples of a slice from the eigenvectors of its smaller Gram matrix: good
/// to the square root of the precision, which is plenty for a start.
fn leading_triples<T: Scalar>(slice: ArrayView2<'_, T>, rank: usize) -> Result<Triples> {
    let (m, n) = slice.dim();
    if m < n {
        let t = leading_triples(slice.t(), rank)?;
        return Ok(Triples {
            u: t.vt.reversed_axes(),
            s: t.s,
            vt: t.u.reversed_axes(),
        });
    }
    let (_, v) = eigh(gram(slice, Threads::Serial).view())?;
    let v = v.slice_move(s![.., ..rank.min(n)]);
    let mut u = dot(slice, v.view(), Threads::Serial).mapv(Scalar::as_f64);
    let s = u.map_axis(Axis(0), |column| {
        column.iter().map(|x| x * x).sum::<f64>().sqrt()
    });
    Zip::from(u.columns_mut())
        .and(&s)
        .for_each(|mut column, &s| {
            if s > 0.0 {
                column /= s;
            }
        });
    Ok(Triples {
        u,
        s,
        vt: v.mapv(Scalar::as_f64).reversed_axes(),
    })
}

/// The `rank` strongest of all triples as factors, slice q carrying column q of the rotation.
fn assemble(decomposed: &[Triples], rotation: &Spatial, rank: usize) -> Factors {
    let mut order: Vec<(usize, usize)> = (0..decomposed.len())
        .flat_map(|q| (0..decomposed[q].s.len()).map(move |j| (q, j)))
        .collect();
    let sigma = |&(q, j): &(usize, usize)| decomposed[q].s[j];
    order.sort_by(|x, y| sigma(y).total_cmp(&sigma(x)).then(x.cmp(y)));
    order.truncate(rank);
    let (outputs, inputs) = (decomposed[0].u.nrows(), decomposed[0].vt.ncols());
    let mut a = Array2::zeros((outputs, rank));
    let mut b = Array2::zeros((inputs, rank));
    for (r, &(q, j)) in order.iter().enumerate() {
        a.column_mut(r).assign(&decomposed[q].u.column(j));
        a.column_mut(r).mapv_inplace(|x| x * decomposed[q].s[j]);
        b.column_mut(r).assign(&decomposed[q].vt.row(j));
    }
    let pick = |basis: &Array2<f64>, index: &dyn Fn(usize) -> usize| {
        let mut out = Array2::zeros((basis.nrows(), rank));
        for (r, &(q, _)) in order.iter().enumerate() {
            out.column_mut(r).assign(&basis.column(index(q)));
        }
        out
    };
    let spatial = match rotation {
        Spatial::Joint(c) => Spatial::Joint(pick(c, &|q| q)),
        Spatial::Split(h, v) => {
            let width = v.ncols();
            Spatial::Split(pick(h, &|q| q / width), pick(v, &|q| q % width))
        }
    };
    Factors { a, b, spatial }
}
