//! What a graph was when it was read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rankfold_graph::{Graph, Node, Op, Tensor, WeightName};

use super::proto::{ModelProto, TensorProto};
use crate::map::Mapping;

/// The file that a graph came from: its nodes as they were, and all that the graph does not hold.
#[derive(Debug, Clone)]
pub struct OnnxOrigin {
    /// The model without its initializers.
    pub(super) model: ModelProto,
    /// The initializers, in order.
    pub(super) initializers: IndexMap<String, Initializer>,
    /// Which nodes of the graph came from which of the file.
    pub(super) groups: Vec<Group>,
    /// The version of the operators.
    pub(super) opset: i64,
    /// The mapped files that hold the tensors.
    pub(super) mappings: Vec<Mapping>,
    /// The files beside the model that hold tensors.
    pub(super) beside: Vec<PathBuf>,
}

/// A tensor of the file.
#[derive(Debug, Clone)]
pub(super) struct Initializer {
    /// The file's entry: without data where `tensor` has it, whole where the type is not known.
    pub(super) proto: TensorProto,
    pub(super) tensor: Option<Tensor>,
}

/// Nodes of the file that became nodes of the graph together.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    /// Places in the file.
    pub(super) protos: Vec<usize>,
    /// The graph's nodes as they were.
    pub(super) nodes: Vec<Imported>,
}

/// A node of the graph as it was.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Imported {
    pub(super) name: String,
    pub(super) op: Op,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) weights: Vec<(WeightName, Tensor)>,
}

impl Imported {
    /// `node` of `graph` as it is now.
    pub(super) fn of(graph: &Graph, node: &Node) -> Self {
        let name = |id: &_| graph.value(*id).name.clone();
        Self {
            name: node.name.clone(),
            op: node.op.clone(),
            inputs: node.inputs.iter().map(name).collect(),
            outputs: node.outputs.iter().map(name).collect(),
            weights: (node.op.weights().into_iter())
                .filter_map(|(_, w)| Some((w.clone(), graph.weights().get(w)?.clone())))
                .collect(),
        }
    }

    /// True where `node` is still what it was: op, wires, and the very bytes of its weights.
    pub(super) fn is_still(&self, graph: &Graph, node: &Node) -> bool {
        let now = Self::of(graph, node);
        self.op == now.op
            && self.inputs == now.inputs
            && self.outputs == now.outputs
            && self.weights.len() == now.weights.len()
            && (self.weights.iter().zip(&now.weights))
                .all(|((a, s), (b, t))| a == b && s.shares_storage(t) && s.shape() == t.shape())
    }
}

impl OnnxOrigin {
    /// The version of ONNX's operators that the file uses.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// The files beside the model's own that hold its tensors, in the order of their names.
    pub fn files_beside(&self) -> impl Iterator<Item = &Path> {
        self.beside.iter().map(PathBuf::as_path)
    }

    /// The file's own strings.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.model
            .metadata_props
            .iter()
            .map(|p| (p.key(), p.value()))
    }

    /// Groups by the names of their nodes.
    pub(super) fn by_node(&self) -> HashMap<&str, usize> {
        let pairs = self.groups.iter().enumerate();
        pairs
            .flat_map(|(i, g)| g.nodes.iter().map(move |n| (n.name.as_str(), i)))
            .collect()
    }
}
