//! Building a graph node by node.

use std::collections::HashSet;

use crate::cost::PaperSize;
use crate::error::GraphError;
use crate::graph::{Graph, Node, Value, ValueId};
use crate::meta::Meta;
use crate::op::Op;
use crate::shape::Fact;
use crate::tensor::Tensor;
use crate::weights::WeightName;

/// A graph under construction: every node is checked as it is added.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    graph: Graph,
    names: HashSet<String>,
    nodes: HashSet<String>,
}

impl GraphBuilder {
    /// An empty graph of that name.
    pub fn new(name: impl Into<String>) -> Self {
        let mut builder = Self::default();
        builder.graph.meta.name = name.into();
        builder
    }

    /// Adds a model input.
    pub fn input(&mut self, name: &str, fact: Fact) -> Result<ValueId, GraphError> {
        let id = self.value(name.to_owned(), fact)?;
        self.graph.inputs.push(id);
        Ok(id)
    }

    /// Adds or replaces a weight.
    pub fn weight(&mut self, name: impl Into<WeightName>, tensor: Tensor) {
        self.graph.weights.insert(name, tensor);
    }

    /// Adds a node with any number of outputs, named after the node.
    pub fn node(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>, GraphError> {
        self.named_node(name, op, inputs, &[])
    }

    /// Adds a node whose outputs have names of their own; missing ones follow the node's name.
    pub fn named_node(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[ValueId],
        output_names: &[String],
    ) -> Result<Vec<ValueId>, GraphError> {
        let op = op.into();
        if self.nodes.contains(name) {
            return Err(GraphError::DuplicateName {
                name: name.to_owned(),
            });
        }
        let facts = {
            let inputs: Vec<&Fact> = inputs.iter().map(|&id| self.graph.fact(id)).collect();
            op.infer(&inputs, &self.graph.weights)
                .map_err(|source| GraphError::Op {
                    node: name.to_owned(),
                    op: op.kind(),
                    source,
                })?
        };
        self.nodes.insert(name.to_owned());
        let single = facts.len() == 1;
        let mut outputs = Vec::with_capacity(facts.len());
        for (i, fact) in facts.into_iter().enumerate() {
            let output = match output_names.get(i) {
                Some(name) => name.clone(),
                None if single => name.to_owned(),
                None => format!("{name}:{i}"),
            };
            outputs.push(self.value(output, fact)?);
        }
        self.graph.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            paper_size: None,
        });
        Ok(outputs)
    }

    /// Adds a node with one output.
    pub fn op(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[ValueId],
    ) -> Result<ValueId, GraphError> {
        Ok(self.node(name, op, inputs)?[0])
    }

    /// Sets the paper's sizes of the node added last.
    pub fn paper_size(&mut self, size: PaperSize) {
        if let Some(node) = self.graph.nodes.last_mut() {
            node.paper_size = Some(size);
        }
    }

    /// The fact of a value added before.
    pub fn fact(&self, id: ValueId) -> &Fact {
        self.graph.fact(id)
    }

    /// What is known besides the structure, to be set.
    pub fn meta_mut(&mut self) -> &mut Meta {
        &mut self.graph.meta
    }

    /// Names the outputs and returns the verified graph.
    pub fn finish(mut self, outputs: &[ValueId]) -> Result<Graph, GraphError> {
        self.graph.outputs = outputs.to_vec();
        self.graph.verify()?;
        Ok(self.graph)
    }

    fn value(&mut self, name: String, fact: Fact) -> Result<ValueId, GraphError> {
        if !self.names.insert(name.clone()) {
            return Err(GraphError::DuplicateName { name });
        }
        let id = ValueId(self.graph.values.len() as u32);
        self.graph.values.push(Value { name, fact });
        Ok(id)
    }
}
