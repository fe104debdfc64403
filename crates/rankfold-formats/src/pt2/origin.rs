//! What a graph was when it was read.

use std::collections::HashMap;

use bytes::Bytes;
use indexmap::IndexMap;
use rankfold_graph::{Graph, Node, Op, Tensor, WeightName};

use super::inplace::InPlace;
use super::payload::Stored;
use super::schema::Program;
use crate::map::Mapping;

/// The archive that a graph came from: its program as it was, and all that the graph does not hold.
#[derive(Debug, Clone)]
pub struct Pt2Origin {
    /// The program's name in the archive.
    pub(super) model: String,
    pub(super) program: Program,
    /// Its tensors.
    pub(super) tensors: IndexMap<String, Stored>,
    /// The tensor that each of the program's inputs stands for; the first of several equal ones.
    pub(super) canonical: HashMap<String, WeightName>,
    /// Which nodes of the graph came from which of the file.
    pub(super) groups: Vec<Group>,
    /// What its in-place ops mean.
    pub(super) in_place: InPlace,
    /// Other files of the archive.
    pub(super) extra: Vec<(String, Bytes)>,
    pub(super) mapping: Mapping,
}

/// Nodes of the file that became nodes of the graph together.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    /// Places in the file.
    pub(super) places: Vec<usize>,
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

    /// A record that is filled in when the graph is finished.
    pub(super) fn blank(name: &str, op: &Op) -> Self {
        Self {
            name: name.to_owned(),
            op: op.clone(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// True where `node` is still what it was: op, wires, and the very bytes of its weights.
    pub(super) fn is_still(&self, graph: &Graph, node: &Node) -> bool {
        let now = Self::of(graph, node);
        self.op == now.op
            && self.inputs == now.inputs
            && self.outputs == now.outputs
            && self.weights.len() == now.weights.len()
            && (self.weights.iter().zip(&now.weights)).all(|((a, s), (b, t))| a == b && same(s, t))
    }
}

/// True where both are the very same bytes in the same shape.
pub(super) fn same(a: &Tensor, b: &Tensor) -> bool {
    a.shares_storage(b) && a.shape() == b.shape() && a.dtype() == b.dtype()
}

impl Pt2Origin {
    /// The version of PyTorch that exported the program, as the file says it.
    pub fn torch_version(&self) -> Option<&str> {
        self.program.rest.get("torch_version")?.as_str()
    }

    /// The strings that were saved with the program, by name.
    pub fn extra(&self) -> impl Iterator<Item = (&str, &str)> {
        self.extra.iter().filter_map(|(name, data)| {
            let name = name.strip_prefix("extra/")?;
            Some((name, std::str::from_utf8(data).ok()?))
        })
    }

    /// Groups by the names of their nodes.
    pub(super) fn by_node(&self) -> HashMap<&str, usize> {
        let pairs = self.groups.iter().enumerate();
        pairs
            .flat_map(|(i, g)| g.nodes.iter().map(move |n| (n.name.as_str(), i)))
            .collect()
    }
}
