use serde::{Deserialize, Serialize};

use super::conv::{same_length, window};
use super::{exactly, ranked};
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::{Dim, Fact};
use crate::weights::Weights;

/// The largest value of every window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaxPool {
    /// Size of the window.
    pub kernel: Vec<usize>,
    /// Step of the window.
    pub stride: Vec<usize>,
    /// Padding before and after.
    pub padding: Vec<[usize; 2]>,
    /// Distance between the taps.
    pub dilation: Vec<usize>,
    /// Keep a last window that hangs over the edge.
    pub ceil: bool,
}

impl MaxPool {
    /// Square windows over two dimensions.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: vec![kernel; 2],
            stride: vec![stride; 2],
            padding: vec![[padding; 2]; 2],
            dilation: vec![1; 2],
            ceil: false,
        }
    }

    /// The same with windows that may hang over the edge.
    pub fn ceil(mut self) -> Self {
        self.ceil = true;
        self
    }
}

impl Operation for MaxPool {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let windows = Windows {
            kernel: &self.kernel,
            stride: &self.stride,
            padding: &self.padding,
            dilation: &self.dilation,
            ceil: self.ceil,
        };
        windows.infer(input)
    }
}

/// The mean of every window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AvgPool {
    /// Size of the window.
    pub kernel: Vec<usize>,
    /// Step of the window.
    pub stride: Vec<usize>,
    /// Padding before and after.
    pub padding: Vec<[usize; 2]>,
    /// Keep a last window that hangs over the edge.
    pub ceil: bool,
    /// Count padding in the mean.
    pub count_include_pad: bool,
}

impl AvgPool {
    /// Square windows over two dimensions.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: vec![kernel; 2],
            stride: vec![stride; 2],
            padding: vec![[padding; 2]; 2],
            ceil: false,
            count_include_pad: true,
        }
    }
}

impl Operation for AvgPool {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let windows = Windows {
            kernel: &self.kernel,
            stride: &self.stride,
            padding: &self.padding,
            dilation: &vec![1; self.kernel.len()],
            ceil: self.ceil,
        };
        windows.infer(input)
    }
}

struct Windows<'a> {
    kernel: &'a [usize],
    stride: &'a [usize],
    padding: &'a [[usize; 2]],
    dilation: &'a [usize],
    ceil: bool,
}

impl Windows<'_> {
    fn infer(&self, input: &Fact) -> Result<Vec<Fact>, OpError> {
        let spatial = self.kernel.len();
        same_length(
            spatial,
            [self.stride.len(), self.padding.len(), self.dilation.len()],
        )?;
        let Some(shape) = ranked(input, spatial + 2)? else {
            return Ok(vec![input.clone()]);
        };
        let mut result = shape[..2].to_vec();
        for (i, dim) in shape[2..].iter().enumerate() {
            result.push(self.size(dim, i)?);
        }
        Ok(vec![input.with_shape(result)])
    }

    /// With `ceil`, a window counts as long as it starts inside the input or its leading padding.
    fn size(&self, input: &Dim, i: usize) -> Result<Dim, OpError> {
        let floor = window(
            input,
            self.kernel[i],
            self.stride[i],
            self.padding[i],
            self.dilation[i],
        )?;
        let (Some(size), Some(windows)) = (input.fixed(), floor.fixed()) else {
            return Ok(floor);
        };
        let padded = size + self.padding[i][0] + self.padding[i][1];
        let extent = self.dilation[i] * (self.kernel[i] - 1) + 1;
        let hangs_over = !(padded - extent).is_multiple_of(self.stride[i]);
        let starts_inside = windows * self.stride[i] < size + self.padding[i][0];
        let extra = usize::from(self.ceil && hangs_over && starts_inside);
        Ok(Dim::Fixed(windows + extra))
    }
}

/// The mean of as many windows as the output has places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveAvgPool {
    /// Output size.
    pub output: Vec<usize>,
}

impl Operation for AdaptiveAvgPool {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        adaptive(inputs, &self.output)
    }
}

/// The largest value of as many windows as the output has places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveMaxPool {
    /// Output size.
    pub output: Vec<usize>,
}

impl Operation for AdaptiveMaxPool {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        adaptive(inputs, &self.output)
    }
}

fn adaptive(inputs: &[&Fact], output: &[usize]) -> Result<Vec<Fact>, OpError> {
    let [input] = exactly(inputs)?;
    let Some(shape) = ranked(input, output.len() + 2)? else {
        return Ok(vec![input.clone()]);
    };
    let spatial = output.iter().map(|&n| Dim::Fixed(n));
    let shape = shape[..2].iter().cloned().chain(spatial).collect();
    Ok(vec![input.with_shape(shape)])
}
