//! The graph's structure as JSON, weights apart: what a compressed file says of itself.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::builder::GraphBuilder;
use crate::cost::PaperSize;
use crate::error::GraphError;
use crate::graph::Graph;
use crate::meta::Meta;
use crate::op::Op;
use crate::shape::Fact;
use crate::weights::Weights;

/// A graph without its weights, in a form that can be stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphSpec {
    meta: Meta,
    inputs: Vec<InputSpec>,
    nodes: Vec<NodeSpec>,
    outputs: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct InputSpec {
    name: String,
    #[serde(flatten)]
    fact: Fact,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NodeSpec {
    name: String,
    #[serde(flatten)]
    op: Op,
    inputs: Vec<String>,
    /// Names of the outputs, where they are not the node's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paper_size: Option<PaperSize>,
}

impl GraphSpec {
    /// The structure of a graph.
    pub fn of(graph: &Graph) -> Self {
        let name = |id: &_| graph.value(*id).name.clone();
        let input = |id: &_| InputSpec {
            name: name(id),
            fact: graph.fact(*id).clone(),
        };
        let nodes = graph.nodes.iter().map(|node| {
            let names: Vec<String> = node.outputs.iter().map(name).collect();
            let own = names.len() == 1 && names[0] == node.name;
            NodeSpec {
                name: node.name.clone(),
                op: node.op.clone(),
                inputs: node.inputs.iter().map(name).collect(),
                names: if own { Vec::new() } else { names },
                paper_size: node.paper_size,
            }
        });
        Self {
            meta: graph.meta.clone(),
            inputs: graph.inputs.iter().map(input).collect(),
            nodes: nodes.collect(),
            outputs: graph.outputs.iter().map(name).collect(),
        }
    }

    /// What is known of the model besides its structure.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The verified graph, with its weights.
    pub fn into_graph(self, weights: Weights) -> Result<Graph, GraphError> {
        let mut builder = GraphBuilder::new(self.meta.name.clone());
        *builder.meta_mut() = self.meta;
        for (name, tensor) in weights.iter() {
            builder.weight(name.clone(), tensor.clone());
        }
        let mut values = HashMap::new();
        for input in self.inputs {
            let id = builder.input(&input.name, input.fact)?;
            values.insert(input.name, id);
        }
        let lookup = |values: &HashMap<String, _>, name: &String| {
            values
                .get(name)
                .copied()
                .ok_or_else(|| GraphError::Unknown {
                    what: "value",
                    name: name.clone(),
                })
        };
        for node in self.nodes {
            let inputs = node
                .inputs
                .iter()
                .map(|name| lookup(&values, name))
                .collect::<Result<Vec<_>, _>>()?;
            let outputs = builder.named_node(&node.name, node.op, &inputs, &node.names)?;
            if let Some(size) = node.paper_size {
                builder.paper_size(size);
            }
            for (i, id) in outputs.iter().enumerate() {
                let name = match (node.names.get(i), outputs.len()) {
                    (Some(name), _) => name.clone(),
                    (None, 1) => node.name.clone(),
                    (None, _) => format!("{}:{i}", node.name),
                };
                values.insert(name, *id);
            }
        }
        let outputs = self
            .outputs
            .iter()
            .map(|name| lookup(&values, name))
            .collect::<Result<Vec<_>, _>>()?;
        builder.finish(&outputs)
    }
}
