//! Values and weights in 8 bits.

use rankfold_graph::ops::Quantize;
use rankfold_graph::{Code, DType, Int8, Tensor};

use crate::onnx::proto::NodeProto;
use crate::onnx::read::Import;

impl Import<'_> {
    /// What `QuantizeLinear` rounds to, where it has one scale of 8 bits for all.
    pub(in crate::onnx) fn rounding(&self, node: &NodeProto) -> Option<Quantize> {
        let scale = self.constant(node.arg(1)?)?;
        let (dtype, zero) = match node.arg(2) {
            None => (DType::U8, 0),
            Some(name) => {
                let zero = self.constant(name)?;
                (zero.dtype(), *zero.to_i64()?.first()?)
            }
        };
        let range = match dtype {
            DType::U8 => [0, 255],
            DType::I8 => [-128, 127],
            _ => return None,
        };
        let plain = scale.len() == 1
            && scale.dtype() == DType::F32
            && node.int_or("block_size", 0) == 0
            && node.int_or("output_dtype", 0) == 0;
        let scale = *scale.to_f32().ok()?.first()?;
        plain.then(|| Quantize::from_file(scale.into(), zero, range))?
    }

    /// The floats that `DequantizeLinear` makes of constants.
    pub(in crate::onnx) fn dequantized(&self, node: &NodeProto) -> Option<Tensor> {
        let is_it = node.is_standard() && node.op_type() == "DequantizeLinear";
        if !is_it || node.int_or("block_size", 0) != 0 {
            return None;
        }
        let (codes, scales) = (self.constant(node.arg(0)?)?, self.constant(node.arg(1)?)?);
        let zeros = match node.arg(2) {
            None => vec![0; scales.len()],
            Some(name) => self.constant(name)?.to_i64()?,
        };
        if scales.dtype() != DType::F32 || zeros.len() != scales.len() {
            return None;
        }
        let rank = codes.shape().len() as i64;
        let axis = node.int_or("axis", 1);
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
        let scales = scales.to_f32().ok()?;
        match (scales.len(), codes.shape().get(axis)) {
            (1, _) => linear(codes, &scales, &zeros, 0),
            (count, Some(&channels)) if count == channels => linear(codes, &scales, &zeros, axis),
            _ => None,
        }
    }
}

/// `(code − zero) · scale`, with a scale and a zero for every slice along `axis` or for all.
fn linear(codes: &Tensor, scales: &[f32], zeros: &[i64], axis: usize) -> Option<Tensor> {
    let symmetric = codes.dtype() == DType::I8 && zeros.iter().all(|&zero| zero == 0);
    if let (true, Some(&channels)) = (symmetric, codes.shape().get(axis)) {
        let every = |i| scales.get(i).or(scales.first()).copied();
        let scales: Vec<f32> = (0..channels).map(every).collect::<Option<_>>()?;
        let scales = Tensor::from_f32(vec![channels], scales).ok()?;
        if let Ok(code) = Int8::new(codes.clone(), scales, axis) {
            return Tensor::coded(Code::Int8(code)).ok();
        }
    }
    let inner: usize = codes.shape().iter().skip(axis + 1).product();
    let channel = |i: usize| i / inner.max(1) % scales.len().max(1);
    let values = codes.to_i64()?;
    let decode = |(i, &code): (usize, &i64)| {
        (code.saturating_sub(zeros[channel(i)])) as f32 * scales[channel(i)]
    };
    let values = values.iter().enumerate().map(decode).collect();
    Tensor::from_f32(codes.shape().to_vec(), values).ok()
}
