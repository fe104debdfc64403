//! The only way to change a graph's structure.

use std::collections::{HashMap, HashSet};

use crate::cost::PaperSize;
use crate::error::GraphError;
use crate::graph::{Graph, Node, Value, ValueId};
use crate::op::Op;
use crate::shape::Fact;
use crate::tensor::Tensor;
use crate::weights::WeightName;

/// A value that a patch refers to: one of the graph's own or one that the patch makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wire {
    /// A value of the graph.
    Old(ValueId),
    /// An output of a node of the patch.
    New(usize, usize),
}

impl From<ValueId> for Wire {
    fn from(id: ValueId) -> Self {
        Self::Old(id)
    }
}

#[derive(Debug)]
struct NewNode {
    name: String,
    op: Op,
    inputs: Vec<Wire>,
    paper_size: Option<PaperSize>,
}

/// A set of changes, applied as one or not at all.
///
/// New nodes are wired from old values and from each other; `redirect` gives the takers of an old
/// value a new one; what nothing needs any more is removed.
#[derive(Debug)]
pub struct Patch {
    pass: String,
    nodes: Vec<NewNode>,
    weights: Vec<(WeightName, Tensor)>,
    ops: HashMap<String, Op>,
    redirects: HashMap<ValueId, Wire>,
}

impl Patch {
    /// An empty patch of the pass that makes it.
    pub fn new(pass: impl Into<String>) -> Self {
        Self {
            pass: pass.into(),
            nodes: Vec::new(),
            weights: Vec::new(),
            ops: HashMap::new(),
            redirects: HashMap::new(),
        }
    }

    /// Adds or replaces a weight.
    pub fn weight(&mut self, name: impl Into<WeightName>, tensor: Tensor) {
        self.weights.push((name.into(), tensor));
    }

    /// Adds a node and returns its first output.
    pub fn node(&mut self, name: impl Into<String>, op: impl Into<Op>, inputs: &[Wire]) -> Wire {
        self.nodes.push(NewNode {
            name: name.into(),
            op: op.into(),
            inputs: inputs.to_vec(),
            paper_size: None,
        });
        Wire::New(self.nodes.len() - 1, 0)
    }

    /// Sets the paper's sizes of the node added last.
    pub fn paper_size(&mut self, size: Option<PaperSize>) {
        if let Some(node) = self.nodes.last_mut() {
            node.paper_size = size;
        }
    }

    /// Gives an existing node another op (other attributes, other weights).
    pub fn set_op(&mut self, node: impl Into<String>, op: impl Into<Op>) {
        self.ops.insert(node.into(), op.into());
    }

    /// Lets everything that took `old` (the model's outputs too) take `new` instead.
    ///
    /// The new value takes over the old one's name, unless a new node is made from the old one.
    pub fn redirect(&mut self, old: ValueId, new: impl Into<Wire>) {
        self.redirects.insert(old, new.into());
    }

    /// Applies the patch to a verified graph, or leaves it as it was and says what is wrong.
    pub fn apply(self, graph: &mut Graph) -> Result<(), GraphError> {
        let pass = self.pass.clone();
        let patched = self.patched(graph).map_err(|source| GraphError::Pass {
            pass,
            source: Box::new(source),
        })?;
        *graph = patched;
        Ok(())
    }

    fn patched(mut self, graph: &Graph) -> Result<Graph, GraphError> {
        graph.verify()?;
        for name in self.ops.keys() {
            if graph.node(name).is_none() {
                return Err(GraphError::Unknown {
                    what: "node",
                    name: name.clone(),
                });
            }
        }
        let mut weights = graph.weights.clone();
        for (name, tensor) in std::mem::take(&mut self.weights) {
            weights.insert(name, tensor);
        }
        let inputs = graph.inputs.iter();
        let mut draft = Draft {
            graph: Graph {
                weights,
                meta: graph.meta.clone(),
                ..Graph::default()
            },
            made: HashMap::new(),
        };
        for &input in inputs {
            let id = draft.push(graph.value(input).clone());
            draft.graph.inputs.push(id);
            draft.made.insert(Wire::Old(input), id);
        }
        let pending = self.pending(graph);
        let order = topological(&pending)?;
        let needed = needed(
            &pending,
            graph.outputs.iter().map(|&o| self.resolve(o.into())),
        );
        for index in order {
            if needed.contains(&index) {
                draft.add(&pending[index], self.value_names(graph, &pending[index]))?;
            }
        }
        for &output in &graph.outputs {
            let wire = self.resolve(Wire::Old(output));
            let id = draft.made.get(&wire).ok_or_else(|| GraphError::Unknown {
                what: "value",
                name: graph.value(output).name.clone(),
            })?;
            draft.graph.outputs.push(*id);
        }
        let mut patched = draft.graph;
        let used: HashSet<WeightName> = patched
            .nodes
            .iter()
            .flat_map(|node| node.op.weights().into_iter().map(|(_, w)| w.clone()))
            .collect();
        patched.weights.retain(|name, _| used.contains(name));
        patched.verify()?;
        Ok(patched)
    }

    fn resolve(&self, wire: Wire) -> Wire {
        let mut wire = wire;
        for _ in 0..=self.redirects.len() {
            match wire {
                Wire::Old(id) => match self.redirects.get(&id) {
                    Some(&next) => wire = next,
                    None => break,
                },
                Wire::New(..) => break,
            }
        }
        wire
    }

    /// Old and new nodes with their inputs as they will be. New nodes stay next to what they replace.
    fn pending(&self, graph: &Graph) -> Vec<Pending> {
        let old = graph.nodes.iter().map(|node| Pending {
            name: node.name.clone(),
            op: self.ops.get(&node.name).unwrap_or(&node.op).clone(),
            inputs: (node.inputs.iter())
                .map(|&id| self.resolve(id.into()))
                .collect(),
            outputs: node.outputs.iter().map(|&id| Wire::Old(id)).collect(),
            paper_size: node.paper_size,
        });
        let new = self.nodes.iter().enumerate().map(|(i, node)| Pending {
            name: node.name.clone(),
            op: node.op.clone(),
            inputs: node.inputs.clone(),
            outputs: vec![Wire::New(i, 0)],
            paper_size: node.paper_size,
        });
        old.chain(new).collect()
    }

    /// True where a new node takes an old value.
    fn is_taken(&self, old: ValueId) -> bool {
        let takes = |node: &NewNode| node.inputs.contains(&Wire::Old(old));
        self.nodes.iter().any(takes)
    }

    /// Names for a node's outputs: what replaces an old value takes over its name.
    fn value_names(&self, graph: &Graph, node: &Pending) -> Vec<String> {
        let name_of = |(i, wire): (usize, &Wire)| match wire {
            Wire::Old(id) => graph.value(*id).name.clone(),
            Wire::New(..) => self
                .redirects
                .iter()
                .filter(|(old, to)| *to == wire && !self.is_taken(**old))
                .map(|(old, _)| *old)
                .min()
                .map(|old| graph.value(old).name.clone())
                .unwrap_or_else(|| match i {
                    0 => node.name.clone(),
                    _ => format!("{}:{i}", node.name),
                }),
        };
        node.outputs.iter().enumerate().map(name_of).collect()
    }
}

struct Pending {
    name: String,
    op: Op,
    inputs: Vec<Wire>,
    outputs: Vec<Wire>,
    paper_size: Option<PaperSize>,
}

struct Draft {
    graph: Graph,
    made: HashMap<Wire, ValueId>,
}

impl Draft {
    fn push(&mut self, value: Value) -> ValueId {
        let id = ValueId(self.graph.values.len() as u32);
        self.graph.values.push(value);
        id
    }

    fn add(&mut self, node: &Pending, names: Vec<String>) -> Result<(), GraphError> {
        let inputs = node.inputs.iter().map(|wire| {
            (self.made.get(wire).copied()).ok_or_else(|| GraphError::Cycle {
                node: node.name.clone(),
            })
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let facts: Vec<&Fact> = inputs.iter().map(|&id| self.graph.fact(id)).collect();
        let inferred = node
            .op
            .infer(&facts, &self.graph.weights)
            .map_err(|source| GraphError::Op {
                node: node.name.clone(),
                op: node.op.kind(),
                source,
            })?;
        let mut outputs = Vec::with_capacity(inferred.len());
        for (i, fact) in inferred.into_iter().enumerate() {
            let wire = node.outputs.get(i).copied();
            let name = names
                .get(i)
                .cloned()
                .unwrap_or_else(|| format!("{}:{i}", node.name));
            let id = self.push(Value { name, fact });
            if let Some(wire) = wire {
                self.made.insert(wire, id);
            }
            outputs.push(id);
        }
        self.graph.nodes.push(Node {
            name: node.name.clone(),
            op: node.op.clone(),
            inputs,
            outputs,
            paper_size: node.paper_size,
        });
        Ok(())
    }
}

/// Indices in an order in which every node comes after those that it depends on.
///
/// Depth first from the old order, so that new nodes stand where they are first needed.
fn topological(nodes: &[Pending]) -> Result<Vec<usize>, GraphError> {
    let mut maker = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for &wire in &node.outputs {
            maker.insert(wire, i);
        }
    }
    let mut order = Vec::with_capacity(nodes.len());
    let mut state = vec![Visit::New; nodes.len()];
    for start in 0..nodes.len() {
        let mut stack = vec![(start, 0)];
        while let Some((node, input)) = stack.pop() {
            if input == 0 {
                if state[node] != Visit::New {
                    continue;
                }
                state[node] = Visit::Open;
            }
            match nodes[node].inputs.get(input) {
                None => {
                    state[node] = Visit::Done;
                    order.push(node);
                }
                Some(wire) => {
                    stack.push((node, input + 1));
                    if let Some(&dependency) = maker.get(wire) {
                        match state[dependency] {
                            Visit::New => stack.push((dependency, 0)),
                            Visit::Done => {}
                            Visit::Open => {
                                return Err(GraphError::Cycle {
                                    node: nodes[node].name.clone(),
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(order)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

/// The nodes that some output depends on.
fn needed(nodes: &[Pending], outputs: impl Iterator<Item = Wire>) -> HashSet<usize> {
    let mut maker = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for &wire in &node.outputs {
            maker.insert(wire, i);
        }
    }
    let mut open: Vec<Wire> = outputs.collect();
    let mut needed = HashSet::new();
    while let Some(wire) = open.pop() {
        if let Some(&node) = maker.get(&wire)
            && needed.insert(node)
        {
            open.extend(&nodes[node].inputs);
        }
    }
    needed
}
