use serde::{Deserialize, Serialize};

use super::exactly;
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::{Dim, Fact};
use crate::weights::Weights;

/// One of the four operations of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
}

/// Arithmetic of two values, with broadcasting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Binary {
    /// Which.
    pub arithmetic: Arithmetic,
}

impl Operation for Binary {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [a, b] = exactly(inputs)?;
        broadcast(a, b).map(|fact| vec![fact])
    }
}

/// Arithmetic of a value and a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BinaryScalar {
    /// Which.
    pub arithmetic: Arithmetic,
    /// The number.
    pub scalar: f64,
    /// The number comes first.
    #[serde(default)]
    pub reversed: bool,
}

impl Operation for BinaryScalar {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        Ok(vec![input.clone()])
    }
}

/// The fact of an elementwise operation on `a` and `b`.
pub(super) fn broadcast(a: &Fact, b: &Fact) -> Result<Fact, OpError> {
    let (Some(x), Some(y)) = (&a.shape, &b.shape) else {
        return Ok(Fact::unshaped(a.dtype));
    };
    let rank = x.len().max(y.len());
    let one = Dim::Fixed(1);
    let at = |shape: &[Dim], i: usize| {
        let missing = rank - shape.len();
        if i < missing {
            one.clone()
        } else {
            shape[i - missing].clone()
        }
    };
    let mut shape = Vec::with_capacity(rank);
    for i in 0..rank {
        let (p, q) = (at(x, i), at(y, i));
        shape.push(if p == q || q == one {
            p
        } else if p == one {
            q
        } else if !p.may_equal(&q) {
            return Err(OpError::Incompatible {
                a: a.clone(),
                b: b.clone(),
            });
        } else {
            // A known size above one decides; the open one must be equal to it (or one).
            match (&p, &q) {
                (Dim::Fixed(_), _) => p,
                (_, Dim::Fixed(_)) => q,
                _ => Dim::UNKNOWN,
            }
        });
    }
    Ok(a.with_shape(shape))
}
