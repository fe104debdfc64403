use serde::{Deserialize, Serialize};

use super::exactly;
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::Fact;
use crate::weights::Weights;

/// Every number rounded to one of 256 evenly spaced ones, zero among them:
/// `(clamp(round(x / scale) + zero_point, 0, 255) − zero_point) · scale`, halves to the even number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantize {
    /// The distance between neighbours.
    pub scale: f32,
    /// Which of them, from the lowest, is zero.
    pub zero_point: u8,
}

impl Quantize {
    /// The same as a file says it, whose numbers begin at `lowest`; none where it has no 256 of them
    /// with zero among them.
    pub fn from_file(scale: f64, zero_point: i64, [lowest, highest]: [i64; 2]) -> Option<Self> {
        let scale = scale as f32;
        let all = highest.checked_sub(lowest)? == i64::from(u8::MAX);
        let zero_point = u8::try_from(zero_point.checked_sub(lowest)?).ok()?;
        let usable = all && scale.is_finite() && scale > 0.0;
        usable.then_some(Self { scale, zero_point })
    }
}

impl Operation for Quantize {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(OpError::Attribute {
                attribute: "scale",
                reason: "expected a finite number above 0",
            });
        }
        Ok(vec![input.clone()])
    }
}
