//! What readers of exported models share: the steps that a file's node becomes, the record of what came
//! from where, and the names that nodes get.

use std::collections::{HashMap, HashSet};

use rankfold_graph::{Graph, Node, Op, Tensor, WeightName};

/// A node of the graph that is to be made, with inputs as the format names them.
#[derive(Debug, Clone)]
pub(crate) struct Step<A> {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<A>,
    /// Weights that the file does not have.
    pub(crate) weights: Vec<(WeightName, Tensor)>,
}

impl<A> Step<A> {
    pub(crate) fn new(op: impl Into<Op>, inputs: impl IntoIterator<Item = A>) -> Self {
        Self {
            op: op.into(),
            inputs: inputs.into_iter().collect(),
            weights: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, weights: Vec<(WeightName, Tensor)>) -> Self {
        self.weights = weights;
        self
    }
}

/// Nodes of the file that became nodes of the graph together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    /// Places in the file.
    pub(crate) places: Vec<usize>,
    /// The graph's nodes as they were.
    pub(crate) nodes: Vec<Imported>,
}

impl Group {
    /// The names that its nodes' inputs and outputs had.
    pub(crate) fn wires(&self) -> impl Iterator<Item = &String> {
        let nodes = self.nodes.iter();
        nodes.flat_map(|node| node.inputs.iter().chain(&node.outputs))
    }
}

/// The places of groups by the names of their nodes.
pub(crate) fn by_node(groups: &[Group]) -> HashMap<&str, usize> {
    let pairs = groups.iter().enumerate();
    pairs
        .flat_map(|(i, g)| g.nodes.iter().map(move |n| (n.name.as_str(), i)))
        .collect()
}

/// A node of the graph as it was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Imported {
    pub(crate) name: String,
    pub(crate) op: Op,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) weights: Vec<(WeightName, Tensor)>,
}

impl Imported {
    /// `node` of `graph` as it is now.
    pub(crate) fn of(graph: &Graph, node: &Node) -> Self {
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
    pub(crate) fn blank(name: &str, op: &Op) -> Self {
        Self {
            name: name.to_owned(),
            op: op.clone(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// True where `node` is still what it was: op, wires, and the very bytes of its weights.
    pub(crate) fn is_still(&self, graph: &Graph, node: &Node) -> bool {
        let now = Self::of(graph, node);
        self.op == now.op
            && self.inputs == now.inputs
            && self.outputs == now.outputs
            && self.weights.len() == now.weights.len()
            && (self.weights.iter().zip(&now.weights)).all(|((a, s), (b, t))| a == b && same(s, t))
    }
}

/// True where both are the very same bytes in the same shape.
pub(crate) fn same(a: &Tensor, b: &Tensor) -> bool {
    a.shares_storage(b) && a.shape() == b.shape() && a.dtype() == b.dtype()
}

/// The name of the module that an op's weights belong to, where they tell it and it is not taken.
pub(crate) fn module_name(op: &Op, taken: &HashSet<String>) -> Option<String> {
    if matches!(op, Op::Opaque(_) | Op::Constant(_)) {
        return None;
    }
    let module = op.weights().into_iter().find_map(|(_, weight)| {
        let (module, leaf) = weight.rsplit_once('.')?;
        matches!(leaf, "weight" | "bias" | "running_mean" | "in_proj_weight")
            .then(|| module.to_owned())
    });
    module.filter(|module| !module.is_empty() && !taken.contains(module))
}

/// A name that is not taken: this one, or this one with a number behind it.
pub(crate) fn unique(name: String, taken: &HashSet<String>) -> String {
    if !taken.contains(&name) {
        return name;
    }
    let mut numbered = (1..).map(|i| format!("{name}.{i}"));
    numbered.find(|n| !taken.contains(n)).unwrap_or(name)
}
