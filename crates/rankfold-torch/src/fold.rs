//! Batch norm folded into the layer before it.
//!
//! `γ (W x + b − μ) / √(σ² + ε) + β` is the layer with `W' = W γ / √(σ² + ε)` and
//! `b' = (b − μ) γ / √(σ² + ε) + β`, output channel by output channel.

use std::collections::HashSet;

use rankfold_graph::ops::BatchNorm;
use rankfold_graph::{Graph, Node, Op, Patch, Tensor, TensorError, WeightName};

use crate::error::{Result, TorchError};

/// A graph with fewer nodes that computes the same, and the names of all nodes concerned.
pub(crate) struct Folded {
    pub(crate) graph: Graph,
    pub(crate) nodes: HashSet<String>,
}

/// Folds every batch norm that alone takes the output of a convolution or linear layer.
pub(crate) fn fold(graph: &Graph) -> Result<Folded> {
    fold_where(graph, |_| true)
}

/// The same for the batch norms that `wanted` accepts.
pub(crate) fn fold_where(graph: &Graph, wanted: impl Fn(&Node) -> bool) -> Result<Folded> {
    let mut patch = Patch::new("fold batch norm");
    let mut nodes = HashSet::new();
    for node in graph.nodes() {
        let Op::BatchNorm(norm) = &node.op else {
            continue;
        };
        let source = node.inputs[0];
        let Some(layer) = graph.producer(source) else {
            continue;
        };
        let alone = graph.consumers(source).count() == 1 && !graph.outputs().contains(&source);
        if !alone || nodes.contains(&layer.name) || !wanted(node) {
            continue;
        }
        let affine = Affine::of(graph, node, norm)?;
        let Some(op) = merged(graph, &mut patch, layer, node, &affine)? else {
            continue;
        };
        patch.set_op(&layer.name, op);
        patch.redirect(node.output(), source);
        nodes.extend([layer.name.clone(), node.name.clone()]);
    }
    let mut graph = graph.clone();
    if !nodes.is_empty() {
        patch.apply(&mut graph)?;
    }
    Ok(Folded { graph, nodes })
}

/// Factor and term of every channel.
struct Affine {
    factor: Vec<f64>,
    term: Vec<f64>,
}

impl Affine {
    fn of(graph: &Graph, node: &Node, norm: &BatchNorm) -> Result<Self> {
        let read = |name: &WeightName| values(graph, node, name);
        let (mean, var) = (read(&norm.mean)?, read(&norm.var)?);
        let scale = norm.scale.as_ref().map(read).transpose()?;
        let shift = norm.shift.as_ref().map(read).transpose()?;
        let factor: Vec<f64> = (0..mean.len())
            .map(|c| scale.as_ref().map_or(1.0, |s| s[c]) / (var[c] + norm.eps).sqrt())
            .collect();
        let term = (0..mean.len())
            .map(|c| shift.as_ref().map_or(0.0, |s| s[c]) - mean[c] * factor[c])
            .collect();
        Ok(Self { factor, term })
    }
}

pub(crate) fn values(graph: &Graph, node: &Node, name: &WeightName) -> Result<Vec<f64>> {
    let tensor = weight(graph, node, name)?;
    let values = tensor.to_f32().map_err(|source| bad(name, source))?;
    Ok(values.iter().map(|&v| f64::from(v)).collect())
}

pub(crate) fn weight<'a>(graph: &'a Graph, node: &Node, name: &WeightName) -> Result<&'a Tensor> {
    graph
        .weights()
        .get(name)
        .ok_or_else(|| TorchError::MissingWeight {
            node: node.name.clone(),
            weight: name.to_string(),
        })
}

pub(crate) fn bad(name: &str, source: TensorError) -> TorchError {
    TorchError::Tensor {
        name: name.to_owned(),
        source,
    }
}

/// The layer's op with new weights; none where the layer is of another kind.
fn merged(
    graph: &Graph,
    patch: &mut Patch,
    layer: &Node,
    norm: &Node,
    affine: &Affine,
) -> Result<Option<Op>> {
    let mut op = layer.op.clone();
    let (kernel, bias, input_channels_first) = match &mut op {
        Op::Conv(op) => (&mut op.weight, &mut op.bias, false),
        Op::Linear(op) => (&mut op.weight, &mut op.bias, false),
        Op::ConvTranspose(op) if op.groups == 1 => (&mut op.weight, &mut op.bias, true),
        _ => return Ok(None),
    };
    // After a linear layer over more than two dimensions the channels are elsewhere.
    let flat = matches!(layer.op, Op::Linear(_));
    let rank = graph.fact(norm.inputs[0]).shape.as_ref().map(Vec::len);
    if flat && rank != Some(2) {
        return Ok(None);
    }
    let old = weight(graph, layer, kernel)?;
    let source = old.to_f32().map_err(|source| bad(kernel, source))?;
    let shape = old.shape().to_vec();
    let taps: usize = shape[2..].iter().product();
    let channels = affine.factor.len();
    let mut scaled = Vec::with_capacity(source.len());
    if input_channels_first {
        for (i, block) in source.chunks_exact(taps.max(1)).enumerate() {
            let factor = affine.factor[i % channels];
            scaled.extend(block.iter().map(|&w| (f64::from(w) * factor) as f32));
        }
    } else {
        let per_channel = source.len() / channels.max(1);
        for (block, &factor) in source.chunks_exact(per_channel.max(1)).zip(&affine.factor) {
            scaled.extend(block.iter().map(|&w| (f64::from(w) * factor) as f32));
        }
    }
    let old_bias = bias
        .as_ref()
        .map(|name| values(graph, layer, name))
        .transpose()?;
    let new_bias: Vec<f32> = (0..channels)
        .map(|c| {
            let own = old_bias.as_ref().map_or(0.0, |b| b[c]);
            (own * affine.factor[c] + affine.term[c]) as f32
        })
        .collect();
    let add = |patch: &mut Patch, role: &str, shape: Vec<usize>, values: Vec<f32>| {
        let name: WeightName = format!("{}.folded.{role}", norm.name).into();
        let tensor = Tensor::from_f32(shape, values).map_err(|source| bad(&name, source))?;
        patch.weight(name.clone(), tensor);
        Ok::<_, TorchError>(name)
    };
    *kernel = add(patch, "weight", shape, scaled)?;
    *bias = Some(add(patch, "bias", vec![channels], new_bias)?);
    Ok(Some(op))
}
