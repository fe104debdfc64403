use serde::{Deserialize, Serialize};

use super::{elements, exactly, ranked, vector, weight};
use crate::error::OpError;
use crate::op::{Operation, Role};
use crate::shape::{Dim, Fact};
use crate::weights::{WeightName, Weights};

/// A convolution; weights `[out, in / groups, kernel…]`. Vectors have an entry per spatial dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conv {
    /// Name of the kernel.
    pub weight: WeightName,
    /// Name of the bias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<WeightName>,
    /// Step of the window.
    pub stride: Vec<usize>,
    /// Zeros added before and after.
    pub padding: Vec<[usize; 2]>,
    /// Distance between the taps.
    pub dilation: Vec<usize>,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Conv {
    /// A convolution of stride one over `spatial` dimensions, unpadded, in one group.
    pub fn new(weight: impl Into<WeightName>, bias: Option<WeightName>, spatial: usize) -> Self {
        Self {
            weight: weight.into(),
            bias,
            stride: vec![1; spatial],
            padding: vec![[0, 0]; spatial],
            dilation: vec![1; spatial],
            groups: 1,
        }
    }

    /// The same with another stride in every dimension.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride.fill(stride);
        self
    }

    /// The same with as much padding on every side.
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding.fill([padding, padding]);
        self
    }

    /// The same with another number of groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}

/// The output size of a window that slides over `input`.
pub(super) fn window(
    input: &Dim,
    kernel: usize,
    stride: usize,
    padding: [usize; 2],
    dilation: usize,
) -> Result<Dim, OpError> {
    if stride == 0 || dilation == 0 || kernel == 0 {
        return Err(OpError::Attribute {
            attribute: "stride",
            reason: "stride, dilation and window size start at 1",
        });
    }
    let Some(size) = input.fixed() else {
        let added = padding[0].checked_add(padding[1]);
        let same = stride == 1 && added.is_some() && added == dilation.checked_mul(kernel - 1);
        return Ok(if same { input.clone() } else { Dim::UNKNOWN });
    };
    let extent = dilation
        .checked_mul(kernel - 1)
        .and_then(|n| n.checked_add(1))
        .ok_or(OpError::Attribute {
            attribute: "dilation",
            reason: "the window is larger than memory",
        })?;
    let padded = size
        .checked_add(padding[0])
        .and_then(|n| n.checked_add(padding[1]))
        .ok_or(OpError::Attribute {
            attribute: "padding",
            reason: "the padded input is larger than memory",
        })?;
    if extent > padded {
        return Err(OpError::Window {
            window: extent,
            input: padded,
        });
    }
    Ok(Dim::Fixed((padded - extent) / stride + 1))
}

pub(super) fn same_length(spatial: usize, lengths: [usize; 3]) -> Result<(), OpError> {
    if lengths == [spatial; 3] {
        return Ok(());
    }
    Err(OpError::Attribute {
        attribute: "stride",
        reason: "stride, padding and dilation need an entry per spatial dimension",
    })
}

impl Operation for Conv {
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        let bias = self.bias.iter().map(|b| (Role::Bias, b));
        std::iter::once((Role::Kernel, &self.weight))
            .chain(bias)
            .collect()
    }

    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        std::iter::once(&mut self.weight)
            .chain(&mut self.bias)
            .collect()
    }

    fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let spatial = self.stride.len();
        same_length(spatial, [spatial, self.padding.len(), self.dilation.len()])?;
        let kernel = weight(weights, &self.weight)?.shape();
        if kernel.len() != spatial + 2 {
            return Err(OpError::WeightShape {
                name: self.weight.to_string(),
                expected: "[out, in / groups, kernel…]",
                got: kernel.to_vec(),
            });
        }
        let (out, per_group) = (kernel[0], kernel[1]);
        if self.groups == 0 || !out.is_multiple_of(self.groups) {
            return Err(OpError::Groups {
                channels: out,
                groups: self.groups,
            });
        }
        vector(weights, self.bias.as_deref(), out)?;
        let Some(shape) = ranked(input, spatial + 2)? else {
            return Ok(vec![input.clone()]);
        };
        let channels = per_group.saturating_mul(self.groups);
        if !shape[1].may_equal(&Dim::Fixed(channels)) {
            return Err(OpError::Channels {
                expected: channels,
                got: input.clone(),
            });
        }
        let mut result = vec![shape[0].clone(), Dim::Fixed(out)];
        for i in 0..spatial {
            result.push(window(
                &shape[i + 2],
                kernel[i + 2],
                self.stride[i],
                self.padding[i],
                self.dilation[i],
            )?);
        }
        Ok(vec![input.with_shape(result)])
    }

    fn macs(&self, _: &[&Fact], outputs: &[&Fact], weights: &Weights) -> Option<u64> {
        let kernel = weights.get(&self.weight)?.shape();
        let per_output: usize = kernel[1..].iter().product();
        elements(outputs.first()?)?.checked_mul(per_output as u64)
    }
}

/// A transposed convolution; weights `[in, out / groups, kernel…]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConvTranspose {
    /// Name of the kernel.
    pub weight: WeightName,
    /// Name of the bias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<WeightName>,
    /// Step of the window.
    pub stride: Vec<usize>,
    /// Rows and columns cut off on each side.
    pub padding: Vec<[usize; 2]>,
    /// Rows and columns added at the end.
    pub output_padding: Vec<usize>,
    /// Distance between the taps.
    pub dilation: Vec<usize>,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Operation for ConvTranspose {
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        let bias = self.bias.iter().map(|b| (Role::Bias, b));
        std::iter::once((Role::Kernel, &self.weight))
            .chain(bias)
            .collect()
    }

    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        std::iter::once(&mut self.weight)
            .chain(&mut self.bias)
            .collect()
    }

    fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        let spatial = self.stride.len();
        same_length(
            spatial,
            [
                self.padding.len(),
                self.dilation.len(),
                self.output_padding.len(),
            ],
        )?;
        let kernel = weight(weights, &self.weight)?.shape();
        if kernel.len() != spatial + 2 {
            return Err(OpError::WeightShape {
                name: self.weight.to_string(),
                expected: "[in, out / groups, kernel…]",
                got: kernel.to_vec(),
            });
        }
        if self.groups == 0 || !kernel[0].is_multiple_of(self.groups) {
            return Err(OpError::Groups {
                channels: kernel[0],
                groups: self.groups,
            });
        }
        let out = kernel[1].checked_mul(self.groups).ok_or(OpError::Groups {
            channels: kernel[1],
            groups: self.groups,
        })?;
        vector(weights, self.bias.as_deref(), out)?;
        let Some(shape) = ranked(input, spatial + 2)? else {
            return Ok(vec![input.clone()]);
        };
        if !shape[1].may_equal(&Dim::Fixed(kernel[0])) {
            return Err(OpError::Channels {
                expected: kernel[0],
                got: input.clone(),
            });
        }
        let mut result = vec![shape[0].clone(), Dim::Fixed(out)];
        for i in 0..spatial {
            let too_large = || OpError::Attribute {
                attribute: "padding",
                reason: "the output is larger than memory",
            };
            let cut = self.padding[i][0].checked_add(self.padding[i][1]);
            let cut = cut.ok_or_else(too_large)?;
            let extent = (kernel[i + 2].checked_sub(1))
                .and_then(|taps| taps.checked_mul(self.dilation[i]))
                .and_then(|extent| extent.checked_add(self.output_padding[i])?.checked_add(1));
            let extent = extent.ok_or_else(too_large)?;
            result.push(match shape[i + 2].fixed() {
                None => Dim::UNKNOWN,
                Some(0) => Dim::Fixed(0),
                Some(n) => {
                    let full = (n - 1).checked_mul(self.stride[i]);
                    let full = full.and_then(|full| full.checked_add(extent));
                    let full = full.ok_or_else(too_large)?;
                    Dim::Fixed(full.checked_sub(cut).ok_or(OpError::Window {
                        window: cut,
                        input: full,
                    })?)
                }
            });
        }
        Ok(vec![input.with_shape(result)])
    }

    fn macs(&self, inputs: &[&Fact], _: &[&Fact], weights: &Weights) -> Option<u64> {
        let kernel = weights.get(&self.weight)?.shape();
        let per_input: usize = kernel[1..].iter().product();
        elements(inputs.first()?)?.checked_mul(per_input as u64)
    }
}
