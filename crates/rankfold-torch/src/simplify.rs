//! Graphs without what inference does not need: constants computed, identities taken out, batch norms
//! folded into the layer before them.

use std::collections::{HashMap, HashSet};

use rankfold_graph::ops::{Activation, Arithmetic, BinaryScalar, Constant};
use rankfold_graph::{DType, Dim, Fact, Graph, GraphBuilder, Node, Op, Patch, ValueId, WeightName};

use crate::convert::from_torch;
use crate::error::{Result, TorchError};
use crate::executor::{Executor, Options};
use crate::fold::{Folded, fold_where};

/// Computed constants may be larger than what they are computed from up to so many numbers.
const SMALL: usize = 1 << 16;

/// The nodes that a simplified graph does not have any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Simplified {
    /// Nodes whose result is now a constant.
    pub constants: Vec<String>,
    /// Nodes that did nothing.
    pub identities: Vec<String>,
    /// Batch norms that are now part of the layer before them.
    pub norms: Vec<String>,
}

impl Simplified {
    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.constants.len() + self.identities.len() + self.norms.len()
    }

    /// True where nothing was found.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A graph that computes the same in inference with fewer nodes. Names of inputs and outputs stay.
pub fn simplify(graph: &Graph) -> Result<(Graph, Simplified)> {
    let (graph, constants) = compute_constants(graph)?;
    let (graph, identities) = remove_identities(&graph)?;
    let (graph, norms) = fold_norms(&graph)?;
    let removed = Simplified {
        constants,
        identities,
        norms,
    };
    Ok((graph, removed))
}

/// Gives the graph constants in the place of what follows from constants alone.
fn compute_constants(graph: &Graph) -> Result<(Graph, Vec<String>)> {
    let mut known: HashMap<ValueId, bool> = HashMap::new();
    let mut computed: Vec<&Node> = Vec::new();
    for node in graph.nodes() {
        if let Op::Constant(constant) = &node.op {
            known.insert(node.output(), constant.learnable);
        } else if is_computable(graph, node, &known) {
            let learnable = node.inputs.iter().any(|input| known[input]);
            known.extend(node.outputs.iter().map(|&output| (output, learnable)));
            computed.push(node);
        }
    }
    let inside: HashSet<&str> = computed.iter().map(|node| node.name.as_str()).collect();
    let outputs = computed.iter().flat_map(|node| &node.outputs).copied();
    let wanted: Vec<ValueId> = outputs
        .filter(|&id| {
            let mut takers = graph.consumers(id);
            graph.outputs().contains(&id) || takers.any(|n| !inside.contains(n.name.as_str()))
        })
        .collect();
    if wanted.is_empty() {
        return Ok((graph.clone(), Vec::new()));
    }
    let tensors = values_of(graph, &computed, &wanted)?;
    let mut patch = Patch::new("compute constants");
    for (&id, tensor) in wanted.iter().zip(tensors) {
        let value = graph.value(id);
        let tensor = match value.fact.dtype.is_float() {
            true => tensor.to_float_dtype(value.fact.dtype),
            false => Ok(tensor),
        };
        let tensor = tensor.map_err(|source| TorchError::Tensor {
            name: value.name.clone(),
            source,
        })?;
        let name = format!("{}.value", value.name);
        patch.weight(name.as_str(), tensor);
        let op = Constant {
            weight: name.as_str().into(),
            learnable: known[&id],
        };
        let wire = patch.node(name, op, &[]);
        patch.redirect(id, wire);
    }
    let mut simpler = graph.clone();
    patch.apply(&mut simpler)?;
    let names = computed.iter().map(|node| node.name.clone()).collect();
    Ok((simpler, names))
}

/// True where a node can be computed here and now, exactly and in little memory.
fn is_computable(graph: &Graph, node: &Node, known: &HashMap<ValueId, bool>) -> bool {
    let size = |&id: &ValueId| {
        let fact = graph.fact(id);
        // Libtorch runs graphs in f32.
        if fact.dtype == DType::F64 {
            return None;
        }
        let sizes = fact.shape.as_ref()?.iter().map(Dim::fixed);
        sizes.reduce(|a, b| a?.checked_mul(b?)).unwrap_or(Some(1))
    };
    let total = |ids: &[ValueId]| {
        let sizes = ids.iter().map(size);
        sizes.reduce(|a, b| a?.checked_add(b?)).flatten()
    };
    let understood = !matches!(node.op, Op::Opaque(_));
    let from_constants =
        !node.inputs.is_empty() && node.inputs.iter().all(|i| known.contains_key(i));
    understood
        && from_constants
        && match (total(&node.inputs), total(&node.outputs)) {
            (Some(from), Some(to)) => to <= from.max(SMALL),
            _ => false,
        }
}

/// The values of `wanted`, which `nodes` make from constants.
fn values_of(
    graph: &Graph,
    nodes: &[&Node],
    wanted: &[ValueId],
) -> Result<Vec<rankfold_graph::Tensor>> {
    let mut builder = GraphBuilder::new("constants");
    let mut values: HashMap<ValueId, ValueId> = HashMap::new();
    let constants = graph.nodes().iter();
    let constants = constants.filter(|node| matches!(node.op, Op::Constant(_)));
    for node in constants.chain(nodes.iter().copied()) {
        for (_, name) in node.op.weights() {
            if let Some(tensor) = graph.weights().get(name) {
                builder.weight(name.clone(), tensor.clone());
            }
        }
        let inputs: Vec<ValueId> = node.inputs.iter().map(|input| values[input]).collect();
        let made = builder.node(&node.name, node.op.clone(), &inputs)?;
        values.extend(node.outputs.iter().copied().zip(made));
    }
    let outputs: Vec<ValueId> = wanted.iter().map(|id| values[id]).collect();
    let options = Options {
        fold: false,
        ..Options::default()
    };
    let results = Executor::new(&builder.finish(&outputs)?, options)?.run(&[])?;
    results.iter().map(from_torch).collect()
}

/// Takes out what does nothing in inference.
fn remove_identities(graph: &Graph) -> Result<(Graph, Vec<String>)> {
    let mut patch = Patch::new("remove identities");
    let mut names = Vec::new();
    for node in graph.nodes() {
        // An output of the model keeps its name, and so its node.
        let stays = node.outputs.iter().any(|id| graph.outputs().contains(id));
        if !stays && does_nothing(graph, node) {
            patch.redirect(node.output(), node.inputs[0]);
            names.push(node.name.clone());
        }
    }
    let mut simpler = graph.clone();
    if !names.is_empty() {
        patch.apply(&mut simpler)?;
    }
    Ok((simpler, names))
}

fn does_nothing(graph: &Graph, node: &Node) -> bool {
    let ([input, ..], [output]) = (&node.inputs[..], &node.outputs[..]) else {
        return false;
    };
    let same_shape = || same(graph.fact(*input), graph.fact(*output));
    match &node.op {
        Op::Activation(activation) => *activation == Activation::Identity,
        Op::Dropout(_) => true,
        Op::BinaryScalar(op) => is_neutral(op),
        Op::Permute(op) => op.dims.is_sorted(),
        Op::Slice(op) => op.start == 0 && op.end.is_none() && op.step == 1,
        Op::Pad(op) => op.padding.iter().all(|&sides| sides == [0, 0]),
        Op::Concat(_) => node.inputs.len() == 1,
        Op::Split(op) => op.sizes.len() == 1,
        Op::Squeeze(op) => op.axes.is_empty(),
        Op::Unsqueeze(op) => op.axes.is_empty(),
        Op::Flatten(_)
        | Op::Reshape(_)
        | Op::Expand(_)
        | Op::AdaptiveAvgPool(_)
        | Op::AdaptiveMaxPool(_) => same_shape(),
        Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Linear(_)
        | Op::BatchNorm(_)
        | Op::LayerNorm(_)
        | Op::GroupNorm(_)
        | Op::LocalResponseNorm(_)
        | Op::MaxPool(_)
        | Op::AvgPool(_)
        | Op::Binary(_)
        | Op::Softmax(_)
        | Op::MatMul(_)
        | Op::Attention(_)
        | Op::Mean(_)
        | Op::Embedding(_)
        | Op::Quantize(_)
        | Op::Constant(_)
        | Op::Opaque(_) => false,
    }
}

/// True where both shapes are known to be equal.
fn same(a: &Fact, b: &Fact) -> bool {
    let known = |fact: &Fact| {
        let shape = fact.shape.as_ref();
        shape.is_some_and(|shape| !shape.contains(&Dim::UNKNOWN))
    };
    a == b && known(a)
}

fn is_neutral(op: &BinaryScalar) -> bool {
    match (op.arithmetic, op.reversed) {
        (Arithmetic::Add, _) | (Arithmetic::Sub, false) => op.scalar == 0.0,
        (Arithmetic::Mul, _) | (Arithmetic::Div, false) => op.scalar == 1.0,
        (Arithmetic::Sub | Arithmetic::Div, true) => false,
    }
}

/// Folds batch norms; the layers keep the names of their weights.
fn fold_norms(graph: &Graph) -> Result<(Graph, Vec<String>)> {
    let inner = |node: &Node| !graph.outputs().contains(&node.output());
    let Folded { graph: folded, .. } = fold_where(graph, inner)?;
    let mut patch = Patch::new("name folded weights");
    let uses = folded.weight_uses();
    let mut renamed = false;
    for node in folded.nodes() {
        let before = graph.node(&node.name).map(|old| old.op.weights());
        let [old, now] = [before.unwrap_or_default(), node.op.weights()];
        if old.first().map(|(_, name)| name) == now.first().map(|(_, name)| name) {
            continue;
        }
        let (Some((_, kernel)), own) = (old.first(), &old) else {
            continue;
        };
        let prefix = kernel.strip_suffix(".weight").unwrap_or(&node.name);
        let mut op = node.op.clone();
        for (i, name) in op.weights_mut().into_iter().enumerate() {
            let bias: WeightName = format!("{prefix}.bias").into();
            let to = own.get(i).map_or(bias, |(_, name)| (*name).clone());
            if uses.contains_key(&*to) {
                continue;
            }
            if let Some(tensor) = folded.weights().get(name) {
                patch.weight(to.clone(), tensor.clone());
                *name = to;
            }
        }
        patch.set_op(&node.name, op);
        renamed = true;
    }
    let norms = graph.nodes().iter();
    let norms = norms.filter(|node| folded.node(&node.name).is_none());
    let norms = norms.map(|node| node.name.clone()).collect();
    let mut simpler = folded.clone();
    if renamed {
        patch.apply(&mut simpler)?;
    }
    Ok((simpler, norms))
}
