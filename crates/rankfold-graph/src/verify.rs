//! Checking that a graph is what its types cannot promise.

use std::collections::HashSet;

use crate::error::GraphError;
use crate::graph::{Graph, ValueId};
use crate::shape::Fact;

impl Graph {
    /// Checks names, order, weights and shapes.
    ///
    /// Every name is unique; every value is made before it is taken, by exactly one node or as a
    /// model input; every op fits its inputs and weights; stored shapes are the inferred ones.
    pub fn verify(&self) -> Result<(), GraphError> {
        unique(self.values.iter().map(|value| value.name.as_str()))?;
        unique(self.nodes.iter().map(|node| node.name.as_str()))?;
        let mut made: HashSet<ValueId> = HashSet::new();
        for &input in &self.inputs {
            self.make(&mut made, input)?;
        }
        for node in &self.nodes {
            if node.inputs.iter().any(|input| !made.contains(input)) {
                return Err(GraphError::Cycle {
                    node: node.name.clone(),
                });
            }
            let inputs: Vec<&Fact> = node.inputs.iter().map(|&id| self.fact(id)).collect();
            let inferred =
                node.op
                    .infer(&inputs, &self.weights)
                    .map_err(|source| GraphError::Op {
                        node: node.name.clone(),
                        op: node.op.kind(),
                        source,
                    })?;
            for (index, (&output, inferred)) in node.outputs.iter().zip(inferred).enumerate() {
                self.make(&mut made, output)?;
                let stored = self.fact(output);
                if *stored != inferred {
                    return Err(GraphError::StaleFact {
                        node: node.name.clone(),
                        index,
                        stored: stored.clone(),
                        inferred,
                    });
                }
            }
        }
        match self.outputs.iter().find(|output| !made.contains(output)) {
            None => Ok(()),
            Some(&output) => Err(GraphError::Unknown {
                what: "value",
                name: self.value(output).name.clone(),
            }),
        }
    }

    fn make(&self, made: &mut HashSet<ValueId>, id: ValueId) -> Result<(), GraphError> {
        if made.insert(id) {
            return Ok(());
        }
        Err(GraphError::DuplicateName {
            name: self.value(id).name.clone(),
        })
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), GraphError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(GraphError::DuplicateName {
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}
