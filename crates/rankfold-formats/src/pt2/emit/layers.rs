//! Convolutions, linear layers, normalisations, pooling, attention.

use rankfold_graph::ops::{
    AdaptiveAvgPool, AdaptiveMaxPool, Attention, AvgPool, BatchNorm, Conv, ConvTranspose,
    GroupNorm, LayerNorm, Linear, LocalResponseNorm, MaxPool,
};
use serde_json::Value;

use super::{Done, Site, flag, int, ints, none, number, signed};
use crate::pt2::Pt2Fault;
use crate::pt2::arguments::tensor_arg;
use crate::pt2::schema::SymInt;
use crate::pt2::write::Writer;

/// The padding where it is the same before and after in every dimension.
fn symmetric(padding: &[[usize; 2]]) -> Option<Vec<usize>> {
    let both = |&[before, after]: &[usize; 2]| (before == after).then_some(before);
    padding.iter().map(both).collect()
}

impl Writer<'_> {
    /// The node's input with `value` around its trailing dimensions.
    fn padded(
        &mut self,
        site: &Site<'_>,
        padding: &[[usize; 2]],
        value: f64,
    ) -> Result<Value, Pt2Fault> {
        let mut sizes = self.sizes_of(site, 0)?;
        let first = sizes.len() - padding.len();
        for (size, &[before, after]) in sizes[first..].iter_mut().zip(padding) {
            let grown = size.plus((before + after) as i64);
            *size = grown.ok_or_else(|| self.no_form(site.node, "it is too large"))?;
        }
        let amounts: Vec<i64> = (padding.iter().rev().flatten())
            .map(|&n| n as i64)
            .collect();
        let name = self.step(site, "constant_pad_nd.default", sizes, |json| {
            json.arg("self", site.input())
                .arg("pad", signed(&amounts))
                .arg("value", number(value))
        })?;
        Ok(tensor_arg(&name))
    }

    pub(super) fn conv(&mut self, site: &Site<'_>, op: &Conv) -> Done {
        let (input, padding) = match symmetric(&op.padding) {
            Some(padding) => (site.input(), padding),
            None => (
                self.padded(site, &op.padding, 0.0)?,
                vec![0; op.padding.len()],
            ),
        };
        let weight = tensor_arg(&self.weight(&op.weight)?);
        let bias = self.optional(op.bias.as_ref())?;
        let target = format!("conv{}d.default", op.stride.len());
        self.simple(site, &target, |json| {
            json.arg("input", input)
                .arg("weight", weight)
                .arg("bias", bias)
                .arg("stride", ints(op.stride.iter().copied()))
                .arg("padding", ints(padding))
                .arg("dilation", ints(op.dilation.iter().copied()))
                .arg("groups", int(op.groups as i64))
        })
    }

    pub(super) fn conv_transpose(&mut self, site: &Site<'_>, op: &ConvTranspose) -> Done {
        let padding = symmetric(&op.padding);
        let padding =
            padding.ok_or_else(|| self.no_form(site.node, "its sides are cut unevenly"))?;
        let weight = tensor_arg(&self.weight(&op.weight)?);
        let bias = self.optional(op.bias.as_ref())?;
        let target = match op.stride.len() {
            1 => "conv_transpose1d.default",
            _ => "conv_transpose2d.input",
        };
        self.simple(site, target, |json| {
            json.arg("input", site.input())
                .arg("weight", weight)
                .arg("bias", bias)
                .arg("stride", ints(op.stride.iter().copied()))
                .arg("padding", ints(padding))
                .arg("output_padding", ints(op.output_padding.iter().copied()))
                .arg("groups", int(op.groups as i64))
                .arg("dilation", ints(op.dilation.iter().copied()))
        })
    }

    pub(super) fn linear(&mut self, site: &Site<'_>, op: &Linear) -> Done {
        let weight = tensor_arg(&self.weight(&op.weight)?);
        let bias = self.optional(op.bias.as_ref())?;
        self.simple(site, "linear.default", |json| {
            json.arg("input", site.input())
                .arg("weight", weight)
                .arg("bias", bias)
        })
    }

    pub(super) fn batch_norm(&mut self, site: &Site<'_>, op: &BatchNorm) -> Done {
        let scale = self.optional(op.scale.as_ref())?;
        let shift = self.optional(op.shift.as_ref())?;
        let mean = tensor_arg(&self.weight(&op.mean)?);
        let var = tensor_arg(&self.weight(&op.var)?);
        self.simple(site, "batch_norm.default", |json| {
            json.arg("input", site.input())
                .arg("weight", scale)
                .arg("bias", shift)
                .arg("running_mean", mean)
                .arg("running_var", var)
                .arg("training", flag(false))
                .arg("momentum", number(op.momentum))
                .arg("eps", number(op.eps))
                .arg("cudnn_enabled", flag(true))
        })
    }

    pub(super) fn layer_norm(&mut self, site: &Site<'_>, op: &LayerNorm) -> Done {
        let scale = self.optional(op.scale.as_ref())?;
        let shift = self.optional(op.shift.as_ref())?;
        self.simple(site, "layer_norm.default", |json| {
            json.arg("input", site.input())
                .arg("normalized_shape", ints(op.shape.iter().copied()))
                .arg("weight", scale)
                .arg("bias", shift)
                .arg("eps", number(op.eps))
        })
    }

    pub(super) fn group_norm(&mut self, site: &Site<'_>, op: &GroupNorm) -> Done {
        let scale = self.optional(op.scale.as_ref())?;
        let shift = self.optional(op.shift.as_ref())?;
        self.simple(site, "group_norm.default", |json| {
            json.arg("input", site.input())
                .arg("num_groups", int(op.groups as i64))
                .arg("weight", scale)
                .arg("bias", shift)
                .arg("eps", number(op.eps))
        })
    }

    /// `x / (k + alpha · mean of x² over neighbouring channels)^beta`.
    pub(super) fn local_response_norm(&mut self, site: &Site<'_>, op: &LocalResponseNorm) -> Done {
        let own = self.sizes_of(site, 0)?;
        if own.len() != 4 {
            return Err(self.no_form(site.node, "its input does not have four dimensions"));
        }
        let mut deep = own.clone();
        deep.insert(1, SymInt::AsInt(1));
        let mut framed = deep.clone();
        let grown = framed[2].plus(op.size as i64 - 1);
        framed[2] = grown.ok_or_else(|| self.no_form(site.node, "it is too large"))?;
        let x = site.input();
        let square = self.step(site, "mul.Tensor", own.clone(), |json| {
            json.arg("self", x.clone()).arg("other", x.clone())
        })?;
        let square = self.step(site, "unsqueeze.default", deep.clone(), |json| {
            json.arg("self", tensor_arg(&square)).arg("dim", int(1))
        })?;
        let (before, after) = (op.size / 2, (op.size - 1) / 2);
        let square = self.step(site, "constant_pad_nd.default", framed, |json| {
            json.arg("self", tensor_arg(&square))
                .arg("pad", ints([0, 0, 0, 0, before, after]))
                .arg("value", number(0.0))
        })?;
        let mean = self.step(site, "avg_pool3d.default", deep, |json| {
            json.arg("self", tensor_arg(&square))
                .arg("kernel_size", ints([op.size, 1, 1]))
                .arg("stride", ints([1, 1, 1]))
        })?;
        let mean = self.step(site, "squeeze.dim", own.clone(), |json| {
            json.arg("self", tensor_arg(&mean)).arg("dim", int(1))
        })?;
        let scaled = self.step(site, "mul.Scalar", own.clone(), |json| {
            json.arg("self", tensor_arg(&mean))
                .arg("other", number(op.alpha))
        })?;
        let sum = self.step(site, "add.Scalar", own.clone(), |json| {
            json.arg("self", tensor_arg(&scaled))
                .arg("other", number(op.k))
        })?;
        let power = self.step(site, "pow.Tensor_Scalar", own, |json| {
            json.arg("self", tensor_arg(&sum))
                .arg("exponent", number(op.beta))
        })?;
        self.simple(site, "div.Tensor", |json| {
            json.arg("self", x).arg("other", tensor_arg(&power))
        })
    }

    /// Input and padding of a window; what PyTorch does not take as padding of its own goes before.
    fn framed(
        &mut self,
        site: &Site<'_>,
        kernel: &[usize],
        padding: &[[usize; 2]],
        ceil: bool,
        value: Option<f64>,
    ) -> Result<(Value, Vec<usize>), Pt2Fault> {
        let within = |p: &Vec<usize>| p.iter().zip(kernel).all(|(&p, &k)| p <= k / 2);
        if let Some(padding) = symmetric(padding).filter(within) {
            return Ok((site.input(), padding));
        }
        match value.filter(|_| !ceil) {
            None => Err(self.no_form(
                site.node,
                "its padding is uneven or more than half a window",
            )),
            Some(value) => Ok((self.padded(site, padding, value)?, vec![0; kernel.len()])),
        }
    }

    pub(super) fn max_pool(&mut self, site: &Site<'_>, op: &MaxPool) -> Done {
        let least = Some(f64::NEG_INFINITY);
        let (input, padding) = self.framed(site, &op.kernel, &op.padding, op.ceil, least)?;
        let target = format!("max_pool{}d.default", op.kernel.len());
        self.simple(site, &target, |json| {
            json.arg("self", input)
                .arg("kernel_size", ints(op.kernel.iter().copied()))
                .arg("stride", ints(op.stride.iter().copied()))
                .arg("padding", ints(padding))
                .arg("dilation", ints(op.dilation.iter().copied()))
                .arg("ceil_mode", flag(op.ceil))
        })
    }

    pub(super) fn avg_pool(&mut self, site: &Site<'_>, op: &AvgPool) -> Done {
        let zero = op.count_include_pad.then_some(0.0);
        let (input, padding) = self.framed(site, &op.kernel, &op.padding, op.ceil, zero)?;
        let target = format!("avg_pool{}d.default", op.kernel.len());
        self.simple(site, &target, |json| {
            json.arg("self", input)
                .arg("kernel_size", ints(op.kernel.iter().copied()))
                .arg("stride", ints(op.stride.iter().copied()))
                .arg("padding", ints(padding))
                .arg("ceil_mode", flag(op.ceil))
                .arg("count_include_pad", flag(op.count_include_pad))
        })
    }

    pub(super) fn adaptive_avg_pool(&mut self, site: &Site<'_>, op: &AdaptiveAvgPool) -> Done {
        let target = format!("adaptive_avg_pool{}d.default", op.output.len());
        self.simple(site, &target, |json| {
            json.arg("self", site.input())
                .arg("output_size", ints(op.output.iter().copied()))
        })
    }

    pub(super) fn adaptive_max_pool(&mut self, site: &Site<'_>, op: &AdaptiveMaxPool) -> Done {
        let meta = self.output_meta(site, 0)?;
        let indices = self.indices_like(site, &meta)?;
        let outputs = vec![(site.outputs[0].clone(), meta), indices];
        let target = format!("adaptive_max_pool{}d.default", op.output.len());
        self.several(site, &target, outputs, false, |json| {
            json.arg("self", site.input())
                .arg("output_size", ints(op.output.iter().copied()))
        });
        Ok(())
    }

    pub(super) fn attention(&mut self, site: &Site<'_>, op: &Attention) -> Done {
        let mask = site
            .inputs
            .get(3)
            .map_or_else(none, |mask| tensor_arg(mask));
        let target = "scaled_dot_product_attention.default";
        self.simple(site, target, |json| {
            let json = json
                .arg("query", site.input())
                .arg("key", tensor_arg(&site.inputs[1]))
                .arg("value", tensor_arg(&site.inputs[2]))
                .arg("attn_mask", mask)
                .arg("dropout_p", number(0.0))
                .arg("is_causal", flag(op.causal));
            match op.scale {
                None => json,
                Some(scale) => json.keyword("scale", number(scale)),
            }
        })
    }
}
