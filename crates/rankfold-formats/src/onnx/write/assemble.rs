//! The nodes in order, and the graph around them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use rankfold_graph::Fact;

use super::Writer;
use crate::onnx::OnnxFault;
use crate::onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::onnx::read::taken;
use crate::onnx::tensor::{fact_of, info_of};

impl Writer<'_> {
    /// The nodes in an order in which each comes after those that it depends on, as near as can be
    /// to the order in which they were added.
    pub(super) fn sorted(&mut self) -> Result<Vec<NodeProto>, OnnxFault> {
        let mut makers: HashMap<&str, usize> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                if makers.insert(output, index).is_some() {
                    return Err(OnnxFault::Duplicate {
                        name: output.clone(),
                    });
                }
            }
        }
        let inputs: HashSet<&str> = self
            .graph
            .inputs()
            .iter()
            .map(|&id| self.graph.value(id).name.as_str())
            .collect();
        let mut waiting = vec![0usize; self.nodes.len()];
        let mut takers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for name in taken(node) {
                match makers.get(name) {
                    Some(&maker) => {
                        waiting[index] += 1;
                        takers[maker].push(index);
                    }
                    None if inputs.contains(name) || self.tensors.contains_key(name) => {}
                    None => {
                        return Err(OnnxFault::Undefined {
                            node: node.name().to_owned(),
                            value: name.to_owned(),
                        });
                    }
                }
            }
        }
        let ready = (0..self.nodes.len()).filter(|&i| waiting[i] == 0);
        let mut ready: BinaryHeap<_> = ready.map(Reverse).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(Reverse(index)) = ready.pop() {
            order.push(index);
            for &taker in &takers[index] {
                waiting[taker] -= 1;
                if waiting[taker] == 0 {
                    ready.push(Reverse(taker));
                }
            }
        }
        if let Some(stuck) = waiting.iter().position(|&n| n > 0) {
            let node = self.nodes[stuck].name().to_owned();
            return Err(OnnxFault::graph(rankfold_graph::GraphError::Cycle { node }));
        }
        let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut self.nodes)
            .into_iter()
            .map(Some)
            .collect();
        Ok(order.into_iter().filter_map(|i| nodes[i].take()).collect())
    }

    pub(super) fn graph_proto(&self, nodes: Vec<NodeProto>) -> GraphProto {
        let file = self.file();
        let of = |described: Option<&Vec<ValueInfoProto>>, id| {
            let value = self.graph.value(id);
            let own = described.and_then(|all| all.iter().find(|v| v.name() == value.name));
            own.cloned()
                .unwrap_or_else(|| info_of(&value.name, &value.fact))
        };
        let made: HashSet<String> = nodes
            .iter()
            .flat_map(|n| n.output.iter().cloned())
            .collect();
        let outputs: HashSet<&str> = self
            .graph
            .outputs()
            .iter()
            .map(|&id| self.graph.value(id).name.as_str())
            .collect();
        let still_true = |info: &&ValueInfoProto| {
            (made.contains(info.name()) || self.tensors.contains_key(info.name()))
                && !outputs.contains(info.name())
                && match (self.graph.value_id(info.name()), fact_of(info)) {
                    (Some(id), Some(fact)) => agree(&fact, self.graph.fact(id)),
                    _ => true,
                }
        };
        let inputs = self.graph.inputs().iter();
        let mut input: Vec<_> = inputs.map(|&id| of(file.map(|f| &f.input), id)).collect();
        // Old files list their initializers as inputs too.
        let listed = file.iter().flat_map(|f| &f.input);
        input.extend(
            listed
                .filter(|v| self.tensors.contains_key(v.name()))
                .cloned(),
        );
        let results = self.graph.outputs().iter();
        let mut proto = GraphProto {
            node: nodes,
            name: Some(self.graph.meta().name.clone()),
            input,
            output: results.map(|&id| of(file.map(|f| &f.output), id)).collect(),
            ..GraphProto::default()
        };
        if let Some(file) = file {
            proto.name.clone_from(&file.name);
            proto.doc_string.clone_from(&file.doc_string);
            proto.metadata_props.clone_from(&file.metadata_props);
            proto
                .sparse_initializer
                .clone_from(&file.sparse_initializer);
            proto.value_info = file.value_info.iter().filter(still_true).cloned().collect();
            let annotations = file.quantization_annotation.iter();
            proto.quantization_annotation = annotations
                .filter(|a| {
                    made.contains(a.tensor_name()) || self.tensors.contains_key(a.tensor_name())
                })
                .cloned()
                .collect();
        }
        proto
    }
}

/// False where a description contradicts what is known.
fn agree(described: &Fact, known: &Fact) -> bool {
    match (&described.shape, &known.shape) {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.may_equal(b)),
        _ => true,
    }
}
