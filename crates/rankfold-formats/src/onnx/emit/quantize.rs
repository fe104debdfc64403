//! Values and weights in 8 bits, as pairs of `QuantizeLinear` and `DequantizeLinear`.

use rankfold_graph::ops::Quantize;
use rankfold_graph::{Code, DType, Int8, Op, Tensor, TensorError};

use super::{Done, Site};
use crate::onnx::attributes::int;
use crate::onnx::proto::NodeProto;
use crate::onnx::stream::Stored;
use crate::onnx::write::Writer;
use crate::onnx::{OnnxFault, PER_CHANNEL};

/// Codes in the file, with what they are multiplied by.
struct Linear {
    codes: Stored,
    scales: Tensor,
    /// The type of the codes, and of the zeros that they count from.
    dtype: DType,
    axis: usize,
}

impl Writer<'_> {
    pub(super) fn quantize(&mut self, site: &Site<'_>, op: &Quantize) -> Done {
        if self.graph.fact(site.node.inputs[0]).dtype != DType::F32 {
            return Err(self.no_form(site.node, "its input is not of type f32"));
        }
        let no_form = |_| OnnxFault::NoForm {
            node: site.node.name.clone(),
            op: site.node.op.kind(),
            reason: "its scale makes no tensor",
        };
        let scale = Tensor::from_f32(vec![], vec![op.scale]).map_err(no_form)?;
        let zero = Tensor::new(DType::U8, vec![], vec![op.zero_point].into()).map_err(no_form)?;
        let name = |what: &str| format!("{}/{what}", site.node.name);
        let scale = self.tensor(&name("scale"), Stored::Plain(scale));
        let zero = self.tensor(&name("zero_point"), Stored::Plain(zero));
        let inputs = [site.input(), scale.clone(), zero.clone()];
        let codes = self.step(site, "QuantizeLinear", &inputs, vec![]);
        let inputs = [codes, scale, zero];
        self.add(site, "DequantizeLinear", &inputs, &site.output(), vec![]);
        Ok(())
    }

    /// The file's name for a weight whose code the file can hold; none for the others.
    pub(in crate::onnx) fn coded_weight(&mut self, name: &str) -> Option<String> {
        let code = self.int8(name)?.clone();
        let linear = Linear {
            codes: Stored::Plain(code.codes().clone()),
            scales: code.scales().to_float_dtype(DType::F32).ok()?,
            dtype: DType::I8,
            axis: code.axis(),
        };
        self.add_dequantized(name, linear)
    }

    /// The same for a matrix that is to be transposed.
    pub(super) fn coded_matrix(&mut self, name: &str) -> Option<String> {
        let code = self.int8(name)?.clone();
        let linear = Linear {
            codes: Stored::Transposed(code.codes().clone()),
            scales: code.scales().to_float_dtype(DType::F32).ok()?,
            dtype: DType::I8,
            axis: 1 - code.axis(),
        };
        self.add_dequantized(name, linear)
    }

    /// The file's name for the bias of a layer with a coded weight, as 32-bit multiples of what the
    /// layer's products are multiples of; none where it is no such multiple.
    pub(super) fn coded_bias(
        &mut self,
        site: &Site<'_>,
        weight: &str,
        bias: &str,
    ) -> Option<String> {
        let input = self.graph.producer(*site.node.inputs.first()?)?;
        let Op::Quantize(input) = &input.op else {
            return None;
        };
        let code = self.int8(weight)?;
        let values = self.graph.weights().get(bias)?.to_f32().ok()?;
        let codes = code.bias_codes(&values, input.scale)?;
        if code.bias_of(&codes, input.scale)? != *values {
            return None;
        }
        let scales = code.steps(input.scale)?;
        let data: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        let codes = Tensor::new(DType::I32, vec![codes.len()], data.into()).ok()?;
        let linear = Linear {
            codes: Stored::Plain(codes),
            scales: Tensor::from_f32(vec![scales.len()], scales).ok()?,
            dtype: DType::I32,
            axis: 0,
        };
        self.add_dequantized(bias, linear)
    }

    fn int8(&self, weight: &str) -> Option<&Int8> {
        match self.graph.weights().get(weight)?.code() {
            Some(Code::Int8(code)) if self.opset >= PER_CHANNEL => Some(code),
            _ => None,
        }
    }

    /// Adds a `DequantizeLinear` whose output is called like the weight.
    fn add_dequantized(&mut self, weight: &str, linear: Linear) -> Option<String> {
        if let Some(output) = self.dequantized.get(weight) {
            return Some(output.clone());
        }
        let zeros = zeros(linear.dtype, linear.scales.len()).ok()?;
        let part = |what: &str| format!("{weight}.{what}");
        let inputs = vec![
            self.tensor(&part("codes"), linear.codes),
            self.tensor(&part("scale"), Stored::Plain(linear.scales)),
            self.tensor(&part("zero_point"), Stored::Plain(zeros)),
        ];
        let output = self.fresh(weight);
        self.push(NodeProto {
            input: inputs,
            output: vec![output.clone()],
            name: Some(part("DequantizeLinear")),
            op_type: Some("DequantizeLinear".to_owned()),
            attribute: vec![int("axis", linear.axis as i64)],
            ..NodeProto::default()
        });
        self.dequantized.insert(weight.to_owned(), output.clone());
        Some(output)
    }
}

fn zeros(dtype: DType, count: usize) -> Result<Tensor, TensorError> {
    Tensor::new(dtype, vec![count], vec![0; count * dtype.size()].into())
}
