//! What nodes take.

use std::collections::HashSet;

use crate::onnx::proto::{GraphProto, NodeProto};

/// The names that a node takes, those that its subgraphs take from outside among them.
pub(in crate::onnx) fn taken(node: &NodeProto) -> impl Iterator<Item = &str> {
    let own = node
        .input
        .iter()
        .map(String::as_str)
        .filter(|n| !n.is_empty());
    let graphs = node
        .attribute
        .iter()
        .flat_map(|a| a.g.iter().chain(&a.graphs));
    own.chain(graphs.flat_map(captured))
}

fn captured(graph: &GraphProto) -> Vec<&str> {
    let inputs = graph.input.iter().map(|v| v.name());
    let tensors = graph.initializer.iter().map(|t| t.name());
    let mut inside: HashSet<&str> = inputs.chain(tensors).collect();
    let mut outside = Vec::new();
    for node in &graph.node {
        outside.extend(taken(node).filter(|n| !inside.contains(n)));
        inside.extend(node.output.iter().map(String::as_str));
    }
    let outputs = graph.output.iter().map(|v| v.name());
    outside.extend(outputs.filter(|n| !n.is_empty() && !inside.contains(n)));
    outside
}
