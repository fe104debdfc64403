use serde::{Deserialize, Serialize};

use super::{axis_index, exactly};
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::{Dim, Fact};
use crate::weights::Weights;

/// Every `step`-th place of an axis from `start` to before `end`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The axis; negative from the end.
    pub axis: i64,
    /// First place; negative from the end.
    pub start: i64,
    /// Place after the last; negative from the end, none for all the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// Distance, at least one.
    pub step: usize,
}

impl Operation for Slice {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        if self.step == 0 {
            return Err(OpError::Attribute {
                attribute: "step",
                reason: "a step starts at 1",
            });
        }
        let Some(mut shape) = input.shape.clone() else {
            return Ok(vec![input.clone()]);
        };
        let axis = axis_index(self.axis, shape.len(), input)?;
        let all = self.start == 0 && self.end.is_none() && self.step == 1;
        if !all {
            shape[axis] = shape[axis].map(|n| {
                let place = |p: i64| {
                    let p = if p < 0 { p.saturating_add(n as i64) } else { p };
                    p.clamp(0, n as i64) as usize
                };
                let end = self.end.map_or(n, place);
                end.saturating_sub(place(self.start)).div_ceil(self.step)
            });
        }
        Ok(vec![input.with_shape(shape)])
    }
}

/// Consecutive pieces of an axis, an output each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The axis; negative from the end.
    pub axis: i64,
    /// Sizes of the pieces.
    pub sizes: Vec<usize>,
}

impl Operation for Split {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let Some(shape) = &input.shape else {
            return Ok(vec![input.clone(); self.sizes.len()]);
        };
        let axis = axis_index(self.axis, shape.len(), input)?;
        let mut sizes = self.sizes.iter();
        let total = sizes.try_fold(0usize, |sum, &size| sum.checked_add(size));
        if !total.is_some_and(|total| shape[axis].may_equal(&Dim::Fixed(total))) {
            return Err(OpError::Attribute {
                attribute: "sizes",
                reason: "the pieces do not add up to the axis",
            });
        }
        let piece = |&size: &usize| {
            let mut shape = shape.clone();
            shape[axis] = Dim::Fixed(size);
            input.with_shape(shape)
        };
        Ok(self.sizes.iter().map(piece).collect())
    }
}
