//! Convolutions, linear layers, normalisations and pooling.

use rankfold_graph::Dim;
use rankfold_graph::ops::{
    AvgPool, BatchNorm, Conv, ConvTranspose, GroupNorm, LayerNorm, Linear, LocalResponseNorm,
    MaxPool,
};

use super::{Done, Site};
use crate::onnx::OnnxFault;
use crate::onnx::attributes::{float, int, ints, signed};
use crate::onnx::proto::AttributeProto;
use crate::onnx::stream::Stored;
use crate::onnx::write::Writer;

/// Padding in ONNX's order: all the sides before, then all those after.
fn pads(padding: &[[usize; 2]]) -> AttributeProto {
    let side = |i: usize| padding.iter().map(move |p| p[i]);
    ints("pads", side(0).chain(side(1)))
}

impl Writer<'_> {
    fn with_bias(&mut self, mut inputs: Vec<String>, bias: Option<&str>) -> Vec<String> {
        inputs.extend(bias.map(|b| self.weight(b)));
        inputs
    }

    /// The kernel and the bias of a layer, after its input.
    fn kernel_and_bias(
        &mut self,
        site: &Site<'_>,
        weight: &str,
        bias: Option<&str>,
    ) -> Vec<String> {
        let inputs = vec![site.input(), self.weight(weight)];
        match bias.and_then(|bias| self.coded_bias(site, weight, bias)) {
            Some(coded) => [inputs, vec![coded]].concat(),
            None => self.with_bias(inputs, bias),
        }
    }

    fn kernel_shape(&self, weight: &str) -> Vec<usize> {
        let tensor = self.graph.weights().get(weight);
        tensor.map_or(vec![], |t| t.shape().iter().skip(2).copied().collect())
    }

    pub(super) fn conv(&mut self, site: &Site<'_>, op: &Conv) -> Done {
        let inputs = self.kernel_and_bias(site, &op.weight, op.bias.as_deref());
        let attributes = vec![
            ints("kernel_shape", self.kernel_shape(&op.weight)),
            ints("strides", op.stride.iter().copied()),
            pads(&op.padding),
            ints("dilations", op.dilation.iter().copied()),
            int("group", op.groups as i64),
        ];
        self.add(site, "Conv", &inputs, &site.output(), attributes);
        Ok(())
    }

    pub(super) fn conv_transpose(&mut self, site: &Site<'_>, op: &ConvTranspose) -> Done {
        let inputs = self.kernel_and_bias(site, &op.weight, op.bias.as_deref());
        let attributes = vec![
            ints("kernel_shape", self.kernel_shape(&op.weight)),
            ints("strides", op.stride.iter().copied()),
            pads(&op.padding),
            ints("output_padding", op.output_padding.iter().copied()),
            ints("dilations", op.dilation.iter().copied()),
            int("group", op.groups as i64),
        ];
        self.add(site, "ConvTranspose", &inputs, &site.output(), attributes);
        Ok(())
    }

    /// A `Gemm` where the input is known to be a matrix, a product and a sum otherwise.
    pub(super) fn linear(&mut self, site: &Site<'_>, op: &Linear) -> Done {
        let shape = &self.graph.fact(site.node.inputs[0]).shape;
        if shape.as_ref().is_some_and(|s| s.len() == 2) {
            let inputs = self.kernel_and_bias(site, &op.weight, op.bias.as_deref());
            self.add(
                site,
                "Gemm",
                &inputs,
                &site.output(),
                vec![int("transB", 1)],
            );
            return Ok(());
        }
        let coded = self.coded_matrix(&op.weight);
        let matrix = match (coded, self.graph.weights().get(&op.weight)) {
            (Some(coded), _) => coded,
            (None, Some(tensor)) => self.tensor(&op.weight, Stored::Transposed(tensor.clone())),
            (None, None) => op.weight.to_string(),
        };
        let inputs = [site.input(), matrix];
        match &op.bias {
            None => self.add(site, "MatMul", &inputs, &site.output(), vec![]),
            Some(bias) => {
                let product = self.step(site, "MatMul", &inputs, vec![]);
                let bias = self.weight(bias);
                self.add(site, "Add", &[product, bias], &site.output(), vec![]);
            }
        }
        Ok(())
    }

    fn or_filled(
        &mut self,
        site: &Site<'_>,
        weight: Option<&str>,
        what: &str,
        value: f64,
        count: usize,
    ) -> Result<String, OnnxFault> {
        match weight {
            Some(weight) => Ok(self.weight(weight)),
            None => self.filled(site, what, value, Some(count)),
        }
    }

    pub(super) fn batch_norm(&mut self, site: &Site<'_>, op: &BatchNorm) -> Done {
        let count = self.graph.weights().get(&op.mean).map_or(0, |t| t.len());
        let scale = self.or_filled(site, op.scale.as_deref(), "scale", 1.0, count)?;
        let shift = self.or_filled(site, op.shift.as_deref(), "shift", 0.0, count)?;
        let (mean, var) = (self.weight(&op.mean), self.weight(&op.var));
        let inputs = [site.input(), scale, shift, mean, var];
        let attributes = vec![
            float("epsilon", op.eps),
            float("momentum", 1.0 - op.momentum),
        ];
        self.add(
            site,
            "BatchNormalization",
            &inputs,
            &site.output(),
            attributes,
        );
        Ok(())
    }

    pub(super) fn layer_norm(&mut self, site: &Site<'_>, op: &LayerNorm) -> Done {
        let dims = op.shape.len();
        if self.opset >= 17 {
            let scale = match (&op.scale, dims) {
                (None, 2..) => return Err(self.no_form(site.node, "it has no scale")),
                (scale, _) => self.or_filled(site, scale.as_deref(), "scale", 1.0, op.shape[0])?,
            };
            let inputs = vec![site.input(), scale];
            let inputs = self.with_bias(inputs, op.shift.as_deref());
            let attributes = vec![int("axis", -(dims as i64)), float("epsilon", op.eps)];
            self.add(
                site,
                "LayerNormalization",
                &inputs,
                &site.output(),
                attributes,
            );
            return Ok(());
        }
        let axes = || vec![signed("axes", -(dims as i64)..0), int("keepdims", 1)];
        let eps = self.filled(site, "eps", op.eps, None)?;
        let mean = self.step(site, "ReduceMean", &[site.input()], axes());
        let centred = self.step(site, "Sub", &[site.input(), mean], vec![]);
        let square = self.step(site, "Mul", &[centred.clone(), centred.clone()], vec![]);
        let variance = self.step(site, "ReduceMean", &[square], axes());
        let sum = self.step(site, "Add", &[variance, eps], vec![]);
        let root = self.step(site, "Sqrt", &[sum], vec![]);
        let mut last = self.step(site, "Div", &[centred, root], vec![]);
        if let Some(scale) = &op.scale {
            let scale = self.weight(scale);
            last = self.step(site, "Mul", &[last, scale], vec![]);
        }
        match &op.shift {
            Some(shift) => {
                let shift = self.weight(shift);
                self.add(site, "Add", &[last, shift], &site.output(), vec![]);
            }
            None => self.add(site, "Identity", &[last], &site.output(), vec![]),
        }
        Ok(())
    }

    /// `GroupNormalization` from opset 21 on; before it, instances of reshaped groups.
    pub(super) fn group_norm(&mut self, site: &Site<'_>, op: &GroupNorm) -> Done {
        let fact = self.graph.fact(site.node.inputs[0]);
        let shape = fact.shape.clone().unwrap_or_default();
        let Some(channels) = shape.get(1).and_then(Dim::fixed) else {
            return Err(self.no_form(site.node, "its channels are not known"));
        };
        let eps = float("epsilon", op.eps);
        let scale = self.or_filled(site, op.scale.as_deref(), "scale", 1.0, channels)?;
        let shift = self.or_filled(site, op.shift.as_deref(), "shift", 0.0, channels)?;
        if op.groups == channels {
            let inputs = [site.input(), scale, shift];
            self.add(
                site,
                "InstanceNormalization",
                &inputs,
                &site.output(),
                vec![eps],
            );
            return Ok(());
        }
        if self.opset >= 21 {
            let inputs = [site.input(), scale, shift];
            let attributes = vec![int("num_groups", op.groups as i64), eps];
            self.add(
                site,
                "GroupNormalization",
                &inputs,
                &site.output(),
                attributes,
            );
            return Ok(());
        }
        let ones = self.filled(site, "ones", 1.0, Some(op.groups))?;
        let zeros = self.filled(site, "zeros", 0.0, Some(op.groups))?;
        let grouped = self.numbers(site, "grouped", &[0, op.groups as i64, -1])?;
        let mut per_channel = vec![channels as i64];
        per_channel.resize(shape.len() - 1, 1);
        let per_channel = self.numbers(site, "per_channel", &per_channel)?;
        let own = self.step(site, "Shape", &[site.input()], vec![]);
        let x = self.step(site, "Reshape", &[site.input(), grouped], vec![]);
        let x = self.step(site, "InstanceNormalization", &[x, ones, zeros], vec![eps]);
        let x = self.step(site, "Reshape", &[x, own], vec![]);
        let scale = self.step(site, "Reshape", &[scale, per_channel.clone()], vec![]);
        let shift = self.step(site, "Reshape", &[shift, per_channel], vec![]);
        let x = self.step(site, "Mul", &[x, scale], vec![]);
        self.add(site, "Add", &[x, shift], &site.output(), vec![]);
        Ok(())
    }

    pub(super) fn local_response_norm(&mut self, site: &Site<'_>, op: &LocalResponseNorm) -> Done {
        if op.size.is_multiple_of(2) {
            return Err(self.no_form(site.node, "ONNX places even windows otherwise"));
        }
        let attributes = vec![
            int("size", op.size as i64),
            float("alpha", op.alpha),
            float("beta", op.beta),
            float("bias", op.k),
        ];
        self.simple(site, "LRN", attributes);
        Ok(())
    }

    pub(super) fn max_pool(&mut self, site: &Site<'_>, op: &MaxPool) -> Done {
        let attributes = vec![
            ints("kernel_shape", op.kernel.iter().copied()),
            ints("strides", op.stride.iter().copied()),
            pads(&op.padding),
            ints("dilations", op.dilation.iter().copied()),
            int("ceil_mode", op.ceil.into()),
        ];
        self.simple(site, "MaxPool", attributes);
        Ok(())
    }

    pub(super) fn avg_pool(&mut self, site: &Site<'_>, op: &AvgPool) -> Done {
        let attributes = vec![
            ints("kernel_shape", op.kernel.iter().copied()),
            ints("strides", op.stride.iter().copied()),
            pads(&op.padding),
            int("ceil_mode", op.ceil.into()),
            int("count_include_pad", op.count_include_pad.into()),
        ];
        self.simple(site, "AveragePool", attributes);
        Ok(())
    }

    /// Pooling to a given size, which ONNX only has for whole multiples of it.
    pub(super) fn adaptive_pool(&mut self, site: &Site<'_>, output: &[usize], max: bool) -> Done {
        if output.iter().all(|&n| n == 1) {
            let kind = if max {
                "GlobalMaxPool"
            } else {
                "GlobalAveragePool"
            };
            self.simple(site, kind, vec![]);
            return Ok(());
        }
        let fact = self.graph.fact(site.node.inputs[0]);
        let sizes = fact.shape.iter().flatten().skip(2).map(Dim::fixed);
        let window = sizes.zip(output).map(|(size, &n)| {
            let size = size.filter(|s| n > 0 && s % n == 0)?;
            Some(size / n)
        });
        let Some(window) = window.collect::<Option<Vec<usize>>>() else {
            return Err(self.no_form(site.node, "its input is no known multiple of its output"));
        };
        if window.len() != output.len() {
            return Err(self.no_form(site.node, "its input's sizes are not known"));
        }
        if window.iter().all(|&n| n == 1) {
            self.simple(site, "Identity", vec![]);
            return Ok(());
        }
        let attributes = vec![
            ints("kernel_shape", window.iter().copied()),
            ints("strides", window.iter().copied()),
        ];
        self.simple(
            site,
            if max { "MaxPool" } else { "AveragePool" },
            attributes,
        );
        Ok(())
    }
}
