//! Which values are quantised.

use rankfold_graph::ops::Activation;
use rankfold_graph::{DType, Graph, Node, Op, ValueId};

/// A value that is to be rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) value: ValueId,
    /// The value that its numbers come from: both have the same range, so that rounding twice is
    /// rounding once.
    pub(super) source: ValueId,
}

/// What layers take, and what convolutions make once it has been through the activation that alone takes
/// it; the model's outputs stay as they are.
pub(super) fn sites(graph: &Graph) -> Vec<Site> {
    let mut values: Vec<ValueId> = Vec::new();
    for node in graph.nodes().iter().filter(|node| is_layer(&node.op)) {
        values.extend(node.inputs.first());
        if !matches!(node.op, Op::Linear(_)) {
            values.push(activated(graph, node));
        }
    }
    values.sort_unstable();
    values.dedup();
    let inner = |value: &ValueId| {
        graph.fact(*value).dtype == DType::F32 && !graph.outputs().contains(value)
    };
    let site = |value| Site {
        value,
        source: source(graph, value),
    };
    values.into_iter().filter(inner).map(site).collect()
}

/// True for layers whose weights are coded.
pub(super) fn is_layer(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_))
}

/// The only node that takes a value; none for the model's outputs.
pub(super) fn only_taker(graph: &Graph, value: ValueId) -> Option<&Node> {
    let mut takers = graph.consumers(value);
    let taker = takers.next()?;
    let alone = takers.next().is_none() && !graph.outputs().contains(&value);
    alone.then_some(taker)
}

/// What becomes of a layer's output before anything else sees it.
fn activated(graph: &Graph, layer: &Node) -> ValueId {
    let output = layer.output();
    match only_taker(graph, output) {
        Some(node) if cuts_off(&node.op) => node.output(),
        _ => output,
    }
}

/// True for activations that leave numbers as they are or take them to an end of a range.
fn cuts_off(op: &Op) -> bool {
    let Op::Activation(activation) = op else {
        return false;
    };
    matches!(
        activation,
        Activation::Relu | Activation::Relu6 | Activation::Clamp { .. }
    )
}

/// The value that made a value's numbers, before they were moved about.
fn source(graph: &Graph, value: ValueId) -> ValueId {
    let mut value = value;
    while let Some(node) = graph.producer(value).filter(|node| moves(&node.op)) {
        value = node.inputs[0];
    }
    value
}

/// True where every number that comes out went in, or is zero.
fn moves(op: &Op) -> bool {
    match op {
        Op::MaxPool(_)
        | Op::AdaptiveMaxPool(_)
        | Op::Split(_)
        | Op::Slice(_)
        | Op::Flatten(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Expand(_)
        | Op::Dropout(_) => true,
        Op::Pad(pad) => pad.value == 0.0,
        Op::Activation(activation) => *activation == Activation::Identity,
        _ => false,
    }
}
