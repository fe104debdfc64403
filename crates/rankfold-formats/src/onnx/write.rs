//! From a graph to an ONNX file.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::path::Path;

use indexmap::IndexMap;
use rankfold_graph::{Fact, Graph, Node, Op, Tensor};

use super::OnnxFault;
use super::origin::OnnxOrigin;
use super::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, ValueInfoProto,
};
use super::read::taken;
use super::stream::{Layout, Stored};
use super::tensor::{fact_of, info_of};
use crate::atomic::write_atomically;
use crate::error::FormatError;
use crate::imported::{Group, by_node};

/// The opset of models that do not come from an ONNX file.
const OPSET: i64 = 18;
/// The oldest IR that has it.
const IR: i64 = 8;
/// Protocol buffers end at two gigabytes; a megabyte is left for what readers add.
const LIMIT: u64 = (1 << 31) - (1 << 20);

/// How a model is written.
#[derive(Debug, Clone, Default)]
pub struct OnnxOptions {
    /// Put the weights into a file beside the model, `NAME.data`, even where they would fit into
    /// the model's own.
    pub external_data: bool,
    /// Strings for the model's metadata, in addition to its own.
    pub metadata: BTreeMap<String, String>,
}

/// Writes `graph` to an ONNX file, all or nothing.
///
/// With `origin`, what the graph was read from, every node that has not changed is written as it
/// was, and so is all that the graph does not hold. Without it the model is of opset 18, and a graph
/// with opaque ops cannot be written.
pub fn write_onnx(
    path: &Path,
    graph: &Graph,
    origin: Option<&OnnxOrigin>,
    options: &OnnxOptions,
) -> Result<(), FormatError> {
    let failed = |fault| FormatError::Onnx {
        path: path.to_owned(),
        fault,
    };
    graph.verify().map_err(|e| failed(OnnxFault::graph(e)))?;
    let mut writer = Writer::new(graph, origin);
    let model = writer.model(&options.metadata).map_err(failed)?;
    let tensors = || {
        writer
            .tensors
            .iter()
            .map(|(name, stored)| (name.as_str(), stored))
    };
    let release = |data: &[u8]| {
        for mapping in origin.iter().flat_map(|o| &o.mappings) {
            mapping.release(data);
        }
    };
    let layout = Layout::new(model.clone(), tensors(), None);
    if !options.external_data && layout.len() < LIMIT {
        return write_atomically(path, |out| layout.write(out, &release).map_err(io(path)));
    }
    let mut beside = path.file_name().unwrap_or_default().to_owned();
    beside.push(".data");
    let layout = Layout::new(model, tensors(), Some(&beside.to_string_lossy()));
    let data = path.with_file_name(&beside);
    write_atomically(&data, |out| {
        layout.write_beside(out, &release).map_err(io(&data))
    })?;
    write_atomically(path, |out| layout.write(out, &release).map_err(io(path)))
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> FormatError + '_ {
    move |source| FormatError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A graph on its way to a file.
pub(super) struct Writer<'a> {
    pub(super) graph: &'a Graph,
    pub(super) opset: i64,
    origin: Option<&'a OnnxOrigin>,
    /// Which node of the file makes each name.
    makers: HashMap<&'a str, usize>,
    nodes: Vec<NodeProto>,
    /// Nodes of the file that have been written.
    written: HashSet<usize>,
    pub(super) tensors: IndexMap<String, Stored>,
    /// Names of the graph's values.
    values: HashSet<&'a str>,
    /// Names that are taken.
    names: HashSet<String>,
}

impl<'a> Writer<'a> {
    fn new(graph: &'a Graph, origin: Option<&'a OnnxOrigin>) -> Self {
        let mut makers = HashMap::new();
        let nodes = origin
            .iter()
            .flat_map(|o| o.model.graph.iter().flat_map(|g| &g.node));
        for (index, node) in nodes.enumerate() {
            for output in &node.output {
                makers.insert(output.as_str(), index);
            }
        }
        Self {
            graph,
            opset: origin.map_or(OPSET, |o| o.opset),
            origin,
            makers,
            nodes: Vec::new(),
            written: HashSet::new(),
            tensors: IndexMap::new(),
            values: graph.values().iter().map(|v| v.name.as_str()).collect(),
            names: graph.values().iter().map(|v| v.name.clone()).collect(),
        }
    }

    fn file(&self) -> Option<&'a GraphProto> {
        self.origin.and_then(|o| o.model.graph.as_ref())
    }

    fn model(&mut self, metadata: &BTreeMap<String, String>) -> Result<ModelProto, OnnxFault> {
        let kept = self.kept();
        // Names of the file come first, so that new ones keep out of their way.
        for &group in &kept {
            self.claim(group);
        }
        let by_node = self
            .origin
            .map(|origin| by_node(&origin.groups))
            .unwrap_or_default();
        let mut done = HashSet::new();
        for node in self.graph.nodes() {
            match by_node.get(node.name.as_str()) {
                Some(&group) if kept.contains(&group) => {
                    if done.insert(group) {
                        self.keep(group)?;
                    }
                }
                group => self.make(node, group.copied())?,
            }
        }
        self.unused();
        if let Some(origin) = self.origin {
            // The file's own order, then what is new.
            let place = |name: &String| origin.initializers.get_index_of(name);
            self.tensors
                .sort_by_key(|name, _| place(name).unwrap_or(usize::MAX));
        }
        let nodes = self.sorted()?;
        let mut model = match self.origin {
            Some(origin) => ModelProto {
                graph: None,
                ..origin.model.clone()
            },
            None => ModelProto {
                ir_version: Some(IR),
                producer_name: Some("rankfold".to_owned()),
                producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                opset_import: vec![OperatorSetIdProto {
                    domain: Some(String::new()),
                    version: Some(OPSET),
                }],
                ..ModelProto::default()
            },
        };
        for (key, value) in metadata {
            model.metadata_props.retain(|p| p.key() != key);
            model.metadata_props.push(StringStringEntryProto {
                key: Some(key.clone()),
                value: Some(value.clone()),
            });
        }
        model.graph = Some(self.graph_proto(nodes));
        Ok(model)
    }

    /// The groups of the file's nodes that can be written as they were.
    fn kept(&self) -> BTreeSet<usize> {
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
    fn claim(&mut self, group: usize) {
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
    fn keep(&mut self, group: usize) -> Result<(), OnnxFault> {
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
    fn make(&mut self, node: &Node, group: Option<usize>) -> Result<(), OnnxFault> {
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
    fn unused(&mut self) {
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

    /// Adds a node.
    pub(super) fn push(&mut self, node: NodeProto) {
        self.nodes.push(node);
    }

    /// A name like `wanted` that nothing has.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        name
    }

    /// The file's name for a tensor that would best be called `wanted`.
    pub(super) fn tensor(&mut self, wanted: &str, stored: Stored) -> String {
        let same = |other: &Stored| match (other, &stored) {
            (Stored::Plain(a), Stored::Plain(b))
            | (Stored::Transposed(a), Stored::Transposed(b)) => {
                a.shape() == b.shape() && a.dtype() == b.dtype() && a.shares_storage(b)
            }
            _ => false,
        };
        let numbered = (0..).map(|i| match i {
            0 => wanted.to_owned(),
            i => format!("{wanted}_{i}"),
        });
        for name in numbered {
            match self.tensors.get(&name) {
                Some(other) if same(other) => return name,
                None if !self.names.contains(&name) => {
                    self.names.insert(name.clone());
                    self.tensors.insert(name.clone(), stored);
                    return name;
                }
                _ => {}
            }
        }
        wanted.to_owned()
    }

    /// The file's name for a weight of the graph.
    pub(super) fn weight(&mut self, name: &str) -> String {
        match self.graph.weights().get(name) {
            Some(tensor) => self.tensor(name, Stored::Plain(tensor.clone())),
            None => name.to_owned(),
        }
    }

    /// A tensor under the very name of a value.
    pub(super) fn tensor_as_value(&mut self, value: &str, tensor: Tensor) {
        self.tensors.insert(value.to_owned(), Stored::Plain(tensor));
    }

    /// That `node` cannot be written.
    pub(super) fn no_form(&self, node: &Node, reason: &'static str) -> OnnxFault {
        OnnxFault::NoForm {
            node: node.name.clone(),
            op: node.op.kind(),
            reason,
        }
    }

    /// The nodes in an order in which each comes after those that it depends on, as near as can be
    /// to the order in which they were added.
    fn sorted(&mut self) -> Result<Vec<NodeProto>, OnnxFault> {
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

    fn graph_proto(&self, nodes: Vec<NodeProto>) -> GraphProto {
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
