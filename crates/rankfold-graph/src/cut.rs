//! Parts of a graph: what comes before a node and the rest, and a node with what follows it.

use std::collections::{HashMap, HashSet};

use crate::builder::GraphBuilder;
use crate::error::GraphError;
use crate::graph::{Graph, Node, ValueId};

/// The two parts of a graph.
#[derive(Debug, Clone)]
pub struct Halves {
    /// The nodes before; its outputs are the inputs of the tail that are none of the graph's.
    pub head: Graph,
    /// The node and all after it; its outputs are the graph's.
    pub tail: Graph,
}

impl Graph {
    /// The graph cut before the node of that name. The values that cross the cut, in the order in which
    /// they are made, are the outputs of the head and the inputs of the tail, under their own names.
    pub fn cut_before(&self, node: &str) -> Result<Halves, GraphError> {
        let place = self.nodes.iter().position(|own| own.name == node);
        let place = place.ok_or_else(|| GraphError::Unknown {
            what: "node",
            name: node.to_owned(),
        })?;
        let (before, after) = self.nodes.split_at(place);
        let made = before.iter().flat_map(|node| node.outputs.iter().copied());
        let early: Vec<ValueId> = self.inputs.iter().copied().chain(made).collect();
        let needed = |value: &ValueId| {
            self.outputs.contains(value) || after.iter().any(|node| node.inputs.contains(value))
        };
        let crossing: Vec<ValueId> = early.into_iter().filter(needed).collect();
        Ok(Halves {
            head: self.part(before, &self.inputs, &crossing)?,
            tail: self.part(after, &crossing, &self.outputs)?,
        })
    }

    /// The node of that name with the nodes that `follows` accepts and that alone take what the one
    /// before makes. What else they take are inputs.
    pub fn around(&self, node: &str, follows: impl Fn(&Node) -> bool) -> Result<Self, GraphError> {
        let unknown = || GraphError::Unknown {
            what: "node",
            name: node.to_owned(),
        };
        let mut last = self.node(node).ok_or_else(unknown)?;
        let mut nodes = vec![last.clone()];
        while let Some(next) = self.only_taker(last).filter(|next| follows(next)) {
            nodes.push(next.clone());
            last = next;
        }
        let made: HashSet<ValueId> = nodes.iter().flat_map(|n| n.outputs.clone()).collect();
        let mut inputs: Vec<ValueId> = Vec::new();
        for &input in nodes.iter().flat_map(|node| &node.inputs) {
            if !made.contains(&input) && !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        self.part(&nodes, &inputs, &last.outputs)
    }

    /// The node that alone takes all that a node makes.
    fn only_taker(&self, node: &Node) -> Option<&Node> {
        let &[value] = &node.outputs[..] else {
            return None;
        };
        let mut takers = self.consumers(value);
        let taker = takers.next()?;
        let alone = takers.next().is_none() && !self.outputs.contains(&value);
        alone.then_some(taker)
    }

    /// Some of the nodes as a graph of their own.
    fn part(
        &self,
        nodes: &[Node],
        inputs: &[ValueId],
        outputs: &[ValueId],
    ) -> Result<Self, GraphError> {
        let mut builder = GraphBuilder::new(self.meta.name.clone());
        *builder.meta_mut() = self.meta.clone();
        for node in nodes {
            for (_, name) in node.op.weights() {
                if let Some(tensor) = self.weights.get(name) {
                    builder.weight(name.clone(), tensor.clone());
                }
            }
        }
        let mut ids = HashMap::new();
        for &input in inputs {
            let value = self.value(input);
            ids.insert(input, builder.input(&value.name, value.fact.clone())?);
        }
        let known = |ids: &HashMap<ValueId, ValueId>, value: &ValueId| {
            ids.get(value).copied().ok_or_else(|| GraphError::Unknown {
                what: "value",
                name: self.value(*value).name.clone(),
            })
        };
        for node in nodes {
            let taken = node.inputs.iter().map(|input| known(&ids, input));
            let taken = taken.collect::<Result<Vec<_>, _>>()?;
            let names = node.outputs.iter().map(|&id| self.value(id).name.clone());
            let names: Vec<String> = names.collect();
            let made = builder.named_node(&node.name, node.op.clone(), &taken, &names)?;
            ids.extend(node.outputs.iter().copied().zip(made));
            if let Some(size) = node.paper_size {
                builder.paper_size(size);
            }
        }
        let outputs = outputs.iter().map(|output| known(&ids, output));
        builder.finish(&outputs.collect::<Result<Vec<_>, _>>()?)
    }
}
