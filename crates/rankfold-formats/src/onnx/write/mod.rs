//! From a graph to an ONNX file.

mod assemble;
mod kept;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use indexmap::IndexMap;
use rankfold_graph::{Graph, Node, Tensor};

use super::OnnxFault;
use super::origin::OnnxOrigin;
use super::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto};
use super::stream::{Layout, Stored};
use crate::atomic::write_atomically;
use crate::error::FormatError;
use crate::imported::by_node;

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
    /// The file's names of the weights and biases that it holds as codes.
    pub(super) dequantized: HashMap<String, String>,
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
            dequantized: HashMap::new(),
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
        if let Some(name) = self.coded_weight(name) {
            return name;
        }
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
}
