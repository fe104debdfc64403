//! The graph: values and the nodes that make them, in topological order.

use std::collections::HashMap;

use crate::cost::PaperSize;
use crate::error::GraphError;
use crate::meta::Meta;
use crate::op::Op;
use crate::shape::Fact;
use crate::weights::Weights;

/// A value of one graph, valid until its next patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

impl ValueId {
    /// The value's place in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Something that flows: a model input or a node's output.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Its unique name.
    pub name: String,
    /// What is known of it.
    pub fact: Fact,
}

/// An op, the values that it takes and those that it makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its unique name: the module path that torchvision or the user gave it.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// What it takes.
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub outputs: Vec<ValueId>,
    /// The sizes that the paper's cost convention counts, for the networks that have them.
    pub paper_size: Option<PaperSize>,
}

impl Node {
    /// The single output of a node that has one.
    pub fn output(&self) -> ValueId {
        self.outputs[0]
    }
}

/// A model: values, nodes in topological order, weights.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    pub(crate) values: Vec<Value>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
    pub(crate) weights: Weights,
    pub(crate) meta: Meta,
}

impl Graph {
    /// All values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes; each comes after those that it depends on.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The model's inputs.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// The model's outputs.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The named weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What is known of the model besides its structure.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The same, to be changed.
    pub fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// What is known of a value.
    pub fn fact(&self, id: ValueId) -> &Fact {
        &self.value(id).fact
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The value of that name.
    pub fn value_id(&self, name: &str) -> Option<ValueId> {
        let place = self.values.iter().position(|value| value.name == name)?;
        Some(ValueId(place as u32))
    }

    /// The node that makes a value; none for a model input.
    pub fn producer(&self, id: ValueId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.outputs.contains(&id))
    }

    /// The nodes that take a value, in order.
    pub fn consumers(&self, id: ValueId) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(move |node| node.inputs.contains(&id))
    }

    /// How many ops name each weight: above one where it is tied.
    pub fn weight_uses(&self) -> HashMap<&str, usize> {
        let mut uses = HashMap::new();
        for node in &self.nodes {
            for (_, name) in node.op.weights() {
                *uses.entry(&**name).or_default() += 1;
            }
        }
        uses
    }

    /// Replaces weights by name; shapes must be equal. All that does not fit is in the error.
    pub fn set_weights(&mut self, loaded: &Weights) -> Result<(), Vec<WeightMismatch>> {
        let mut mismatches = Vec::new();
        for (name, own) in self.weights.iter() {
            match loaded.get(name) {
                None => mismatches.push(WeightMismatch::Missing {
                    name: name.to_string(),
                    expected: own.shape().to_vec(),
                }),
                Some(tensor) if tensor.shape() != own.shape() => {
                    mismatches.push(WeightMismatch::Shape {
                        name: name.to_string(),
                        expected: own.shape().to_vec(),
                        got: tensor.shape().to_vec(),
                    });
                }
                Some(_) => {}
            }
        }
        for (name, tensor) in loaded.iter() {
            let step_counter = name.ends_with("num_batches_tracked");
            if !self.weights.contains(name) && !step_counter {
                mismatches.push(WeightMismatch::Surplus {
                    name: name.to_string(),
                    got: tensor.shape().to_vec(),
                });
            }
        }
        if !mismatches.is_empty() {
            return Err(mismatches);
        }
        let names: Vec<_> = self.weights.names().cloned().collect();
        for name in names {
            if let Some(tensor) = loaded.get(&name) {
                self.weights.insert(name, tensor.clone());
            }
        }
        Ok(())
    }

    /// Replaces one weight by another of the same shape.
    pub fn set_weight(
        &mut self,
        name: &str,
        tensor: crate::tensor::Tensor,
    ) -> Result<(), GraphError> {
        let unknown = || GraphError::Unknown {
            what: "weight",
            name: name.to_owned(),
        };
        let own = self.weights.get(name).ok_or_else(unknown)?;
        if own.shape() != tensor.shape() {
            return Err(GraphError::WeightReplaced {
                name: name.to_owned(),
                expected: own.shape().to_vec(),
                got: tensor.shape().to_vec(),
            });
        }
        self.weights.insert(name, tensor);
        Ok(())
    }
}

/// How a state dict differs from what a graph needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightMismatch {
    /// A tensor that the graph needs and the file has not.
    #[error("missing  {name}  expected {expected:?}")]
    Missing {
        /// Its name.
        name: String,
        /// The shape that it should have.
        expected: Vec<usize>,
    },
    /// A tensor that the file has and the graph does not know.
    #[error("surplus  {name}  found {got:?}")]
    Surplus {
        /// Its name.
        name: String,
        /// Its shape.
        got: Vec<usize>,
    },
    /// A tensor of the wrong shape.
    #[error("shape    {name}  expected {expected:?}, found {got:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The shape that it should have.
        expected: Vec<usize>,
        /// The shape that it has.
        got: Vec<usize>,
    },
}
