//! The factors of a CP decomposition while they are computed, in f64.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::blas::gram;
use crate::cp::tensor::Slices;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// The spatial factor of a CP decomposition.
#[derive(Debug, Clone)]
pub(crate) enum Spatial {
    /// Three-way: C (K×R), the taps of both directions together.
    Joint(Array2<f64>),
    /// Four-way: H (Dh×R) and V (Dw×R), with C = H ⊙ V, tap k = i·Dw + j.
    Split(Array2<f64>, Array2<f64>),
}

/// W[t, s, k] ≈ Σ_r A[t, r]·B[s, r]·C[k, r].
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    pub(crate) a: Array2<f64>,
    pub(crate) b: Array2<f64>,
    pub(crate) spatial: Spatial,
}

impl Spatial {
    /// C, K×R.
    pub(crate) fn taps(&self) -> Array2<f64> {
        match self {
            Self::Joint(c) => c.clone(),
            Self::Split(h, v) => {
                let (width, rank) = v.dim();
                Array2::from_shape_fn((h.nrows() * width, rank), |(k, r)| {
                    h[[k / width, r]] * v[[k % width, r]]
                })
            }
        }
    }

    /// CᵀC.
    pub(crate) fn gram(&self) -> Array2<f64> {
        match self {
            Self::Joint(c) => gram(c.view(), Threads::Serial),
            Self::Split(h, v) => gram(h.view(), Threads::Serial) * gram(v.view(), Threads::Serial),
        }
    }

    pub(crate) fn parts_mut(&mut self) -> Vec<&mut Array2<f64>> {
        match self {
            Self::Joint(c) => vec![c],
            Self::Split(h, v) => vec![h, v],
        }
    }

    /// self + step·(self − before).
    pub(crate) fn extrapolate(&self, before: &Self, step: f64) -> Self {
        match (self, before) {
            (Self::Joint(c), Self::Joint(c0)) => Self::Joint(along(c, c0, step)),
            (Self::Split(h, v), Self::Split(h0, v0)) => {
                Self::Split(along(h, h0, step), along(v, v0, step))
            }
            _ => unreachable!("invariant: one run keeps one spatial form"),
        }
    }
}

/// x + step·(x − before).
pub(crate) fn along(x: &Array2<f64>, before: &Array2<f64>, step: f64) -> Array2<f64> {
    let mut out = x.clone();
    out.zip_mut_with(before, |x, &x0| *x += step * (*x - x0));
    out
}

impl Factors {
    pub(crate) fn rank(&self) -> usize {
        self.a.ncols()
    }

    /// All factors, outputs first.
    pub(crate) fn parts_mut(&mut self) -> Vec<&mut Array2<f64>> {
        let mut parts = vec![&mut self.a, &mut self.b];
        parts.extend(self.spatial.parts_mut());
        parts
    }

    /// λ_r, the norm of every rank-one term.
    pub(crate) fn weights(&self) -> Array1<f64> {
        let mut weights = column_norms(self.a.view()) * column_norms(self.b.view());
        match &self.spatial {
            Spatial::Joint(c) => weights *= &column_norms(c.view()),
            Spatial::Split(h, v) => {
                weights *= &column_norms(h.view());
                weights *= &column_norms(v.view());
            }
        }
        weights
    }

    /// Σλ², the sum of the squared norms of the rank-one terms.
    pub(crate) fn energy(&self) -> f64 {
        self.weights().iter().map(|w| w * w).sum()
    }

    /// Spreads the norm of every rank-one term evenly over its factors.
    pub(crate) fn balance(&mut self) {
        let mut parts = self.parts_mut();
        let ways = parts.len() as f64;
        for r in 0..parts[0].ncols() {
            let norms: Vec<f64> = parts
                .iter()
                .map(|p| p.column(r).iter().map(|x| x * x).sum::<f64>().sqrt())
                .collect();
            let product: f64 = norms.iter().product();
            let target = norms.iter().map(|n| n.powf(1.0 / ways)).product::<f64>();
            for (part, norm) in parts.iter_mut().zip(norms) {
                let mut column = part.column_mut(r);
                if product > 0.0 {
                    column *= target / norm;
                } else {
                    column.fill(0.0);
                }
            }
        }
    }

    /// Orders the rank-one terms by norm, largest first, and keeps the first `rank`.
    pub(crate) fn strongest(&self, rank: usize) -> Self {
        let weights = self.weights();
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by(|&i, &j| weights[j].total_cmp(&weights[i]).then(i.cmp(&j)));
        order.truncate(rank);
        self.select(&order)
    }

    /// The rank-one terms at `order`.
    pub(crate) fn select(&self, order: &[usize]) -> Self {
        Self {
            a: self.a.select(Axis(1), order),
            b: self.b.select(Axis(1), order),
            spatial: match &self.spatial {
                Spatial::Joint(c) => Spatial::Joint(c.select(Axis(1), order)),
                Spatial::Split(h, v) => {
                    Spatial::Split(h.select(Axis(1), order), v.select(Axis(1), order))
                }
            },
        }
    }

    /// The relative error ‖W − Σ_r a_r∘b_r∘c_r‖/‖W‖, measured slice by slice.
    ///
    /// Costs one product with every slice and the memory of one slice; for errors too small for the
    /// expanded square to resolve.
    pub(crate) fn measured_error<T: Scalar>(&self, w: &Slices<T>, threads: Threads) -> f64 {
        if w.norm_sq == 0.0 {
            return 0.0;
        }
        let c = self.spatial.taps();
        let slices = w.values().into_outer_iter().zip(c.outer_iter()).collect();
        let squares = threads.map(slices, |(w, c)| {
            let scaled = &self.a * &c;
            let mut rest = crate::blas::dot(scaled.view(), self.b.t(), Threads::Serial);
            rest.zip_mut_with(&w, |x, w| *x -= w.as_f64());
            crate::check::norm_sq(&rest)
        });
        (squares.iter().sum::<f64>() / w.norm_sq).sqrt()
    }

    /// The factors with `left` and `right`, bases of a compressed core, multiplied back in.
    pub(crate) fn expand<T: Scalar>(
        &self,
        left: ArrayView2<'_, T>,
        right: ArrayView2<'_, T>,
    ) -> Self {
        let lift = |basis: ArrayView2<'_, T>, x: &Array2<f64>| {
            crate::blas::dot(basis.mapv(Scalar::as_f64).view(), x.view(), Threads::Serial)
        };
        Self {
            a: lift(left, &self.a),
            b: lift(right, &self.b),
            spatial: self.spatial.clone(),
        }
    }
}

fn column_norms(x: ArrayView2<'_, f64>) -> Array1<f64> {
    x.map_axis(Axis(0), |column| {
        column.iter().map(|x| x * x).sum::<f64>().sqrt()
    })
}
