use serde::{Deserialize, Serialize};

use super::{axis_index, exactly};
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::{Dim, Fact};
use crate::weights::Weights;

/// The mean over axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The axes; negative from the end.
    pub axes: Vec<i64>,
    /// Keep them as dimensions of size one.
    pub keep: bool,
}

impl Operation for Mean {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let Some(shape) = &input.shape else {
            return Ok(vec![input.clone()]);
        };
        let axes = self
            .axes
            .iter()
            .map(|&axis| axis_index(axis, shape.len(), input))
            .collect::<Result<Vec<_>, _>>()?;
        let reduced = shape.iter().enumerate().filter_map(|(i, dim)| {
            if !axes.contains(&i) {
                Some(dim.clone())
            } else {
                self.keep.then_some(Dim::Fixed(1))
            }
        });
        Ok(vec![input.with_shape(reduced.collect())])
    }
}
