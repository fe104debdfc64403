//! Nodes of the file that are written as they were, and what they need.

use std::collections::{BTreeSet, HashMap, HashSet};

use rankfold_graph::{Node, Op};

use super::Writer;
use crate::imported::Group;
use crate::onnx::OnnxFault;
use crate::onnx::proto::NodeProto;
use crate::onnx::read::taken;
use crate::onnx::stream::Stored;

impl Writer<'_> {
    /// The groups of the file's nodes that can be written as they were.
    pub(super) fn kept(&self) -> BTreeSet<usize> {
        let Some(origin) = self.origin else {
            return BTreeSet::new();
        };
        let nodes: HashMap<&str, &Node> = self
            .graph
            .nodes()
            .iter()
            .map(|n| (n.name.as_str(), n))
            .collect();
        let is_still = |group: &&Group| {
            group.nodes.iter().all(|was| {
                nodes
                    .get(was.name.as_str())
                    .is_some_and(|now| was.is_still(self.graph, now))
            })
        };
        let groups = origin.groups.iter().enumerate();
        let same = groups.filter(|(_, g)| !g.places.is_empty() && is_still(g));
        same.filter(|(_, g)| self.helpers(&g.places).is_some())
            .map(|(i, _)| i)
            .collect()
    }

    /// The nodes of the file, none of them in the graph, that those in `protos` need besides; none
    /// where they need something that is no longer there.
    fn helpers(&self, protos: &[usize]) -> Option<Vec<usize>> {
        let (file, origin) = (self.file()?, self.origin?);
        let inside: HashSet<&str> = protos
            .iter()
            .flat_map(|&p| file.node[p].output.iter().map(String::as_str))
            .collect();
        let mut found = Vec::new();
        let mut seen: HashSet<usize> = protos.iter().copied().collect();
        let mut open: Vec<usize> = protos.to_vec();
        while let Some(index) = open.pop() {
            for name in taken(&file.node[index]) {
                let is_there = inside.contains(name)
                    || self.values.contains(name)
                    || origin.initializers.contains_key(name);
                if is_there {
                    continue;
                }
                let &maker = self.makers.get(name)?;
                if seen.insert(maker) {
                    found.push(maker);
                    open.push(maker);
                }
            }
        }
        Some(found)
    }

    /// Reserves the names that a kept group brings with it.
    pub(super) fn claim(&mut self, group: usize) {
        let (Some(origin), Some(file)) = (self.origin, self.file()) else {
            return;
        };
        let protos = &origin.groups[group].places;
        let helpers = self.helpers(protos).unwrap_or_default();
        for &index in protos.iter().chain(&helpers) {
            self.names.extend(file.node[index].output.iter().cloned());
            for name in taken(&file.node[index]) {
                self.claim_initializer(name);
            }
        }
    }

    fn claim_initializer(&mut self, name: &str) {
        let found = self.origin.and_then(|o| o.initializers.get(name));
        let Some(initializer) = found else { return };
        let stored = match &initializer.tensor {
            Some(tensor) => Stored::Plain(tensor.clone()),
            None => Stored::Foreign(Box::new(initializer.proto.clone())),
        };
        self.names.insert(name.to_owned());
        self.tensors.entry(name.to_owned()).or_insert(stored);
    }

    /// Writes a group as it was.
    pub(super) fn keep(&mut self, group: usize) -> Result<(), OnnxFault> {
        let (Some(origin), Some(file)) = (self.origin, self.file()) else {
            return Ok(());
        };
        let protos = &origin.groups[group].places;
        let helpers = self.helpers(protos).unwrap_or_default();
        for &index in protos.iter().chain(&helpers) {
            if self.written.insert(index) {
                self.nodes.push(file.node[index].clone());
            }
        }
        Ok(())
    }

    /// Writes a node anew; one that is not understood as it was, with the names it has now.
    pub(super) fn make(&mut self, node: &Node, group: Option<usize>) -> Result<(), OnnxFault> {
        let Op::Opaque(opaque) = &node.op else {
            return self.emit(node);
        };
        let (Some(group), Some(origin), Some(file)) = (group, self.origin, self.file()) else {
            return Err(self.no_form(node, "it is opaque and does not come from an ONNX file"));
        };
        let group = &origin.groups[group];
        let [index] = group.places[..] else {
            // A constant of a type that the graph does not have.
            for output in &node.outputs {
                let name = self.graph.value(*output).name.clone();
                self.claim_initializer(&name);
            }
            return Ok(());
        };
        let Some(helpers) = self.helpers(&group.places) else {
            return Err(self.no_form(node, "what it needs is no longer in the graph"));
        };
        for helper in helpers {
            if self.written.insert(helper) {
                self.nodes.push(file.node[helper].clone());
            }
        }
        for name in &opaque.weights {
            self.weight(name);
        }
        let now = node
            .inputs
            .iter()
            .chain(&node.outputs)
            .map(|&id| &self.graph.value(id).name);
        let renamed: HashMap<&str, &str> = (group.wires())
            .zip(now)
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        let mut proto = file.node[index].clone();
        rename(&mut proto, &renamed);
        self.written.insert(index);
        self.nodes.push(proto);
        Ok(())
    }

    /// Keeps the initializers that nothing in the file used.
    pub(super) fn unused(&mut self) {
        let (Some(origin), Some(file)) = (self.origin, self.file()) else {
            return;
        };
        let used: HashSet<&str> = file
            .node
            .iter()
            .flat_map(taken)
            .chain(file.output.iter().map(|o| o.name()))
            .collect();
        for name in origin.initializers.keys() {
            if !used.contains(name.as_str()) && !self.names.contains(name) {
                self.claim_initializer(name);
            }
        }
    }
}

/// Gives the values that `node` takes and makes other names.
fn rename(node: &mut NodeProto, names: &HashMap<&str, &str>) {
    let new = |name: &mut String| {
        if let Some(&to) = names.get(name.as_str()) {
            to.clone_into(name);
        }
    };
    node.input.iter_mut().chain(&mut node.output).for_each(new);
    for attribute in &mut node.attribute {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            for inner in &mut graph.node {
                rename(inner, names);
            }
        }
    }
}
