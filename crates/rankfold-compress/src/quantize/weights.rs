//! Kernels as whole numbers, and biases as multiples of what their layers' products are multiples of.

use rankfold_graph::{Code, DType, Graph, Int8, Node, Op, Tensor, WeightName};

use super::sites::is_layer;
use crate::error::CompressError;

/// The graph with the kernels of its layers in 8 bits, a scale for every output channel.
pub(super) fn with_int8_weights(graph: &Graph) -> Result<Graph, CompressError> {
    let mut coded = graph.clone();
    for node in graph.nodes() {
        let Some((name, axis)) = kernel(&node.op) else {
            continue;
        };
        let Some(tensor) = graph.weights().get(name) else {
            continue;
        };
        if tensor.dtype().is_float() {
            coded.set_weight(name, int8(name, tensor, axis)?)?;
        }
    }
    Ok(coded)
}

/// The name of a layer's kernel, and the axis of its output channels.
fn kernel(op: &Op) -> Option<(&WeightName, usize)> {
    match op {
        Op::Conv(op) => Some((&op.weight, 0)),
        Op::Linear(op) => Some((&op.weight, 0)),
        Op::ConvTranspose(op) => Some((&op.weight, 1)),
        _ => None,
    }
}

fn int8(name: &WeightName, tensor: &Tensor, axis: usize) -> Result<Tensor, CompressError> {
    let bad = |source| CompressError::Code {
        weight: name.to_string(),
        source,
    };
    let values = tensor.to_f32().map_err(|e| bad(e.into()))?;
    let scales = scales(&largest(tensor.shape(), &values, axis));
    let scales = Tensor::from_f32(vec![scales.len()], scales);
    let scales = scales.and_then(|scales| scales.to_float_dtype(DType::BF16));
    let scales = scales.map_err(|e| bad(e.into()))?;
    Int8::nearest(tensor.shape().to_vec(), &values, scales, axis)
        .and_then(|code| Ok(Tensor::coded(Code::Int8(code))?))
        .map_err(bad)
}

/// The largest magnitude of every slice along an axis.
pub(super) fn largest(shape: &[usize], values: &[f32], axis: usize) -> Vec<f32> {
    let inner: usize = shape[axis + 1..].iter().product();
    let mut largest = vec![0.0f32; shape[axis]];
    for (i, block) in values.chunks(inner.max(1)).enumerate() {
        let channel = &mut largest[i % shape[axis]];
        *channel = block.iter().fold(*channel, |most, v| most.max(v.abs()));
    }
    largest
}

/// Scales for which the largest number of every channel is about the largest code: rounded up to a bf16,
/// which is half the bytes of an f32. A channel of nothing has the coarsest of the others', so that its
/// bias is a multiple of no finer step than theirs.
fn scales(largest: &[f32]) -> Vec<f32> {
    let usable = |scale: &f32| *scale >= f32::MIN_POSITIVE;
    let own: Vec<f32> = (largest.iter())
        .map(|most| up_to_bf16(most / Int8::LARGEST))
        .collect();
    let coarsest = own.iter().copied().filter(usable).fold(0.0, f32::max);
    let other = if coarsest > 0.0 { coarsest } else { 1.0 };
    let scale = |own: f32| if usable(&own) { own } else { other };
    own.into_iter().map(scale).collect()
}

/// The smallest bf16, which is the upper half of an f32, not below a number of at least zero.
fn up_to_bf16(number: f32) -> f32 {
    const LOWER: u32 = 0xffff;
    f32::from_bits((number.to_bits().saturating_add(LOWER)) & !LOWER)
}

/// The graph with every bias, where its layer's input and kernel have 8 bits, rounded to what 32-bit
/// arithmetic adds. One that has no 32-bit multiple stays as it is.
pub(super) fn with_bias_steps(graph: &Graph) -> Result<Graph, CompressError> {
    let uses = graph.weight_uses();
    let mut rounded = graph.clone();
    for node in graph.nodes().iter().filter(|node| is_layer(&node.op)) {
        let Some((name, values)) = bias_steps(graph, node) else {
            continue;
        };
        if uses.get(&**name) == Some(&1) {
            let tensor = Tensor::from_f32(vec![values.len()], values);
            let tensor = tensor.map_err(|e| CompressError::Code {
                weight: name.to_string(),
                source: e.into(),
            })?;
            rounded.set_weight(name, tensor)?;
        }
    }
    Ok(rounded)
}

fn bias_steps<'a>(graph: &'a Graph, node: &'a Node) -> Option<(&'a WeightName, Vec<f32>)> {
    let input = graph.producer(*node.inputs.first()?)?;
    let Op::Quantize(rounding) = &input.op else {
        return None;
    };
    let weights = node.op.weights();
    let [(_, kernel), (_, bias)] = &weights[..] else {
        return None;
    };
    let Some(Code::Int8(code)) = graph.weights().get(kernel)?.code() else {
        return None;
    };
    let values = graph.weights().get(bias)?.to_f32().ok()?;
    let codes = code.bias_codes(&values, rounding.scale)?;
    Some((bias, code.bias_of(&codes, rounding.scale)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_cut_along_any_axis() {
        let values: Vec<f32> = (0..12)
            .map(|i| if i % 5 == 0 { -i as f32 } else { 0.5 })
            .collect();
        assert_eq!(largest(&[2, 3, 2], &values, 0), [5.0, 10.0]);
        assert_eq!(largest(&[2, 3, 2], &values, 1), [0.5, 0.5, 10.0]);
        assert_eq!(largest(&[2, 3, 2], &values, 2), [10.0, 5.0]);
    }

    #[test]
    fn numbers_go_up_to_the_next_of_half_the_bits() {
        for (number, expected) in [(0.0, 0.0), (1.0, 1.0), (1.003, 1.0078125), (3.1, 3.109375)] {
            assert_eq!(up_to_bf16(number), expected, "{number}");
        }
    }
}
