use serde::{Deserialize, Serialize};

use super::axis_index;
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::{Dim, Fact};
use crate::weights::Weights;

/// Concatenation of any number of values along an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Concat {
    /// The axis; negative from the end.
    pub axis: i64,
}

impl Operation for Concat {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let Some((first, rest)) = inputs.split_first() else {
            return Err(OpError::InputCount {
                expected: 1,
                got: 0,
            });
        };
        let Some(mut shape) = first.shape.clone() else {
            return Ok(vec![(*first).clone()]);
        };
        let axis = axis_index(self.axis, shape.len(), first)?;
        for other in rest {
            let Some(dims) = &other.shape else {
                return Ok(vec![Fact::unshaped(first.dtype)]);
            };
            let incompatible = || OpError::Incompatible {
                a: (*first).clone(),
                b: (*other).clone(),
            };
            if dims.len() != shape.len() {
                return Err(incompatible());
            }
            for (i, dim) in dims.iter().enumerate() {
                if i == axis {
                    shape[i] = match (shape[i].fixed(), dim.fixed()) {
                        (Some(a), Some(b)) => {
                            Dim::Fixed(a.checked_add(b).ok_or_else(incompatible)?)
                        }
                        _ => Dim::UNKNOWN,
                    };
                } else if !dim.may_equal(&shape[i]) {
                    return Err(incompatible());
                } else if shape[i].fixed().is_none() && dim.fixed().is_some() {
                    shape[i] = dim.clone();
                }
            }
        }
        Ok(vec![first.with_shape(shape)])
    }
}
