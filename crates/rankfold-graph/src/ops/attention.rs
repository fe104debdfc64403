use serde::{Deserialize, Serialize};

use super::elements;
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::Fact;
use crate::weights::Weights;

/// `softmax(q kᵀ · scale + mask) v` of query, key, value and, optionally, a mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Each place sees only itself and those before it.
    pub causal: bool,
    /// Factor of the scores; one over the root of the key's size where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
}

impl Operation for Attention {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let (3 | 4) = inputs.len() else {
            return Err(OpError::InputCount {
                expected: 3,
                got: inputs.len(),
            });
        };
        let [query, key, value] = [inputs[0], inputs[1], inputs[2]];
        let (Some(q), Some(k), Some(v)) = (&query.shape, &key.shape, &value.shape) else {
            return Ok(vec![Fact::unshaped(query.dtype)]);
        };
        let fits = q.len() >= 2
            && q.len() == k.len()
            && k.len() == v.len()
            && q[q.len() - 1].may_equal(&k[k.len() - 1])
            && k[k.len() - 2].may_equal(&v[v.len() - 2]);
        if !fits {
            return Err(OpError::Incompatible {
                a: query.clone(),
                b: key.clone(),
            });
        }
        let mut shape = q[..q.len() - 1].to_vec();
        shape.push(v[v.len() - 1].clone());
        Ok(vec![query.with_shape(shape)])
    }

    fn macs(&self, inputs: &[&Fact], outputs: &[&Fact], _: &Weights) -> Option<u64> {
        let [query, key] = [inputs.first()?, inputs.get(1)?];
        let keys = key.shape.as_ref()?.iter().rev().nth(1)?.fixed()? as u64;
        let products = elements(query)?.checked_add(elements(outputs.first()?)?)?;
        products.checked_mul(keys)
    }
}
