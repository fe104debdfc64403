use serde::{Deserialize, Serialize};

use super::binary::broadcast;
use super::{elements, exactly};
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::Fact;
use crate::weights::Weights;

/// The product of two (batches of) matrices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatMul {}

impl Operation for MatMul {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [a, b] = exactly(inputs)?;
        let (Some(x), Some(y)) = (&a.shape, &b.shape) else {
            return Ok(vec![Fact::unshaped(a.dtype)]);
        };
        let incompatible = || OpError::Incompatible {
            a: a.clone(),
            b: b.clone(),
        };
        let ([.., rows, inner], [.., other, columns]) = (&x[..], &y[..]) else {
            return Err(incompatible());
        };
        if !inner.may_equal(other) {
            return Err(incompatible());
        }
        let outer = broadcast(
            &a.with_shape(x[..x.len() - 2].to_vec()),
            &b.with_shape(y[..y.len() - 2].to_vec()),
        )?;
        let mut shape = outer.shape.unwrap_or_default();
        shape.extend([rows.clone(), columns.clone()]);
        Ok(vec![a.with_shape(shape)])
    }

    fn macs(&self, inputs: &[&Fact], outputs: &[&Fact], _: &Weights) -> Option<u64> {
        let inner = inputs.first()?.shape.as_ref()?.last()?.fixed()?;
        elements(outputs.first()?)?.checked_mul(inner as u64)
    }
}
