use serde::{Deserialize, Serialize};

use super::{axis_index, exactly};
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::{Dim, Fact};
use crate::weights::Weights;

/// The dimensions from `start` to `end`, both included, merged into one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flatten {
    /// First dimension; negative from the end.
    pub start: i64,
    /// Last dimension; negative from the end.
    pub end: i64,
}

impl Operation for Flatten {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let Some(shape) = &input.shape else {
            return Ok(vec![input.clone()]);
        };
        let start = axis_index(self.start, shape.len(), input)?;
        let end = axis_index(self.end, shape.len(), input)?;
        if end < start {
            return Err(OpError::Attribute {
                attribute: "end",
                reason: "the last dimension comes before the first",
            });
        }
        let merged = match &shape[start..=end] {
            [one] => one.clone(),
            dims => dims
                .iter()
                .try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
                .map_or(Dim::UNKNOWN, Dim::Fixed),
        };
        let mut result = shape[..start].to_vec();
        result.push(merged);
        result.extend_from_slice(&shape[end + 1..]);
        Ok(vec![input.with_shape(result)])
    }
}

/// The same elements in another shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reshape {
    /// Sizes; 0 takes over the input's dimension at that place, −1 (once) follows from the rest.
    pub shape: Vec<i64>,
}

impl Operation for Reshape {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let mismatch = || OpError::Reshape {
            from: input.clone(),
            to: self.shape.clone(),
        };
        let source = input.shape.as_deref();
        let mut result = Vec::with_capacity(self.shape.len());
        let mut open = None;
        for (i, &size) in self.shape.iter().enumerate() {
            result.push(match (size, source) {
                (0, Some(dims)) => dims.get(i).cloned().ok_or_else(mismatch)?,
                (0, None) => Dim::UNKNOWN,
                (-1, _) if open.is_some() => return Err(mismatch()),
                (-1, _) => {
                    open = Some(i);
                    Dim::UNKNOWN
                }
                (n, _) => Dim::Fixed(usize::try_from(n).map_err(|_| mismatch())?),
            });
        }
        let Some(source) = source else {
            return Ok(vec![input.with_shape(result)]);
        };
        let taken_over = |i: usize| self.shape.get(i) == Some(&0);
        let left: Vec<&Dim> = (0..source.len())
            .filter(|&i| !taken_over(i))
            .map(|i| &source[i])
            .collect();
        let product = |mut sizes: Vec<usize>| {
            (sizes.drain(..).try_fold(1usize, usize::checked_mul)).ok_or_else(mismatch)
        };
        let from = product(left.iter().filter_map(|d| d.fixed()).collect())?;
        let given = self.shape.iter().filter(|&&n| n > 0);
        let to = product(given.map(|&n| n as usize).collect())?;
        let symbols: Vec<&Dim> = left.into_iter().filter(|d| d.fixed().is_none()).collect();
        match (open, &symbols[..]) {
            (None, []) if from != to => return Err(mismatch()),
            (Some(i), []) if to > 0 && from.is_multiple_of(to) => result[i] = Dim::Fixed(from / to),
            (Some(_), []) => return Err(mismatch()),
            (Some(i), [symbol]) if from == to => result[i] = (*symbol).clone(),
            _ => {}
        }
        Ok(vec![input.with_shape(result)])
    }
}

/// The dimensions in another order: output dimension i is input dimension `dims[i]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Permute {
    /// Where each dimension comes from.
    pub dims: Vec<usize>,
}

impl Operation for Permute {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let mut sorted = self.dims.clone();
        sorted.sort_unstable();
        if sorted.iter().enumerate().any(|(i, &dim)| i != dim) {
            return Err(OpError::Attribute {
                attribute: "dims",
                reason: "every dimension must come once",
            });
        }
        let Some(shape) = super::ranked(input, self.dims.len())? else {
            return Ok(vec![input.clone()]);
        };
        let permuted = self.dims.iter().map(|&dim| shape[dim].clone());
        Ok(vec![input.with_shape(permuted.collect())])
    }
}

/// Dimensions of size one removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Squeeze {
    /// The dimensions; negative from the end.
    pub axes: Vec<i64>,
}

impl Operation for Squeeze {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let Some(shape) = &input.shape else {
            return Ok(vec![input.clone()]);
        };
        let mut keep = vec![true; shape.len()];
        for &axis in &self.axes {
            let i = axis_index(axis, shape.len(), input)?;
            if !shape[i].may_equal(&Dim::Fixed(1)) {
                return Err(OpError::Axis {
                    axis,
                    input: input.clone(),
                });
            }
            keep[i] = false;
        }
        let kept = shape.iter().zip(keep).filter(|(_, keep)| *keep);
        Ok(vec![
            input.with_shape(kept.map(|(d, _)| d.clone()).collect()),
        ])
    }
}

/// Dimensions of size one added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unsqueeze {
    /// Where they are in the output; negative from the end.
    pub axes: Vec<i64>,
}

impl Operation for Unsqueeze {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let Some(shape) = &input.shape else {
            return Ok(vec![input.clone()]);
        };
        let rank = shape.len() + self.axes.len();
        let mut added = vec![false; rank];
        for &axis in &self.axes {
            added[axis_index(axis, rank, input)?] = true;
        }
        let mut rest = shape.iter();
        let dims = added.iter().map(|&new| {
            if new {
                return Some(Dim::Fixed(1));
            }
            rest.next().cloned()
        });
        let dims: Option<Vec<Dim>> = dims.collect();
        let shape = dims.ok_or(OpError::Attribute {
            attribute: "axes",
            reason: "an axis is named twice",
        })?;
        Ok(vec![input.with_shape(shape)])
    }
}

/// Dimensions of size one repeated without copying.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expand {
    /// Sizes, aligned at the end; −1 keeps a dimension.
    pub shape: Vec<i64>,
    /// The second input, where there is one, gives the size of the first dimension.
    #[serde(default)]
    pub batch_of: bool,
}

impl Operation for Expand {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let (input, like) = if self.batch_of {
            let [input, like] = exactly(inputs)?;
            (input, Some(like))
        } else {
            let [input] = exactly(inputs)?;
            (input, None)
        };
        let Some(shape) = &input.shape else {
            return Ok(vec![input.clone()]);
        };
        let mismatch = || OpError::Reshape {
            from: input.clone(),
            to: self.shape.clone(),
        };
        let missing = self
            .shape
            .len()
            .checked_sub(shape.len())
            .ok_or_else(mismatch)?;
        let mut result = Vec::with_capacity(self.shape.len());
        for (i, &size) in self.shape.iter().enumerate() {
            let own = i.checked_sub(missing).map(|i| &shape[i]);
            result.push(match (size, own) {
                (-1, Some(dim)) => dim.clone(),
                (-1, None) => return Err(mismatch()),
                (n, own) => {
                    let n = usize::try_from(n).map_err(|_| mismatch())?;
                    let fits = own.and_then(Dim::fixed).is_none_or(|d| d == 1 || d == n);
                    if !fits {
                        return Err(mismatch());
                    }
                    Dim::Fixed(n)
                }
            });
        }
        if let (Some(like), Some(first)) = (like, result.first_mut()) {
            let batch = like.shape.as_ref().and_then(|s| s.first().cloned());
            *first = batch.unwrap_or(Dim::UNKNOWN);
        }
        Ok(vec![input.with_shape(result)])
    }
}
