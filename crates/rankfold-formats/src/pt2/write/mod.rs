//! From a graph to a `torch.export` archive.

mod finish;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use indexmap::IndexMap;
use rankfold_graph::{Graph, Node, Op, Tensor, ValueId, WeightName};
use serde_json::{Map, Value, json};
use zip::result::ZipError;

use super::arguments::{Named, output_name, tensor_arg};
use super::names::{name_in_file, open_name};
use super::origin::Pt2Origin;
use super::payload::{Kind, Place, Stored};
use super::schema::{FileNode, Payload, Program, SymInt, TensorMeta};
use super::tensors::Tensors;
use super::{Pt2Fault, pack, program};
use crate::atomic::write_atomically;
use crate::error::FormatError;
use crate::imported::by_node;

/// How a program is written.
#[derive(Debug, Clone, Default)]
pub struct Pt2Options {
    /// Strings to be saved beside the program, in addition to its own: what `torch.export.load`
    /// gives back through `extra_files`.
    pub extra: BTreeMap<String, String>,
}

/// Writes `graph` to a `torch.export` archive, all or nothing.
///
/// With `origin`, what the graph was read from, every node that has not changed is written as it
/// was, and so is all that the graph does not hold. Without it the program is one of PyTorch 2.11,
/// and a graph with opaque ops cannot be written.
pub fn write_pt2(
    path: &Path,
    graph: &Graph,
    origin: Option<&Pt2Origin>,
    options: &Pt2Options,
) -> Result<(), FormatError> {
    let failed = |fault| Pt2Fault::of_file(path, fault);
    graph.verify().map_err(|e| failed(Pt2Fault::graph(e)))?;
    let mut writer = Writer::new(graph, origin);
    let entries = writer.entries(options).map_err(failed)?;
    let release = |data: &[u8]| {
        if let Some(origin) = origin {
            origin.mapping.release(data);
        }
    };
    let io = |source| FormatError::Io {
        path: path.to_owned(),
        source,
    };
    write_atomically(path, |out| {
        pack::write(out, "model", &entries, &release).map_err(|error| match error {
            ZipError::Io(source) => io(source),
            other => io(std::io::Error::other(other)),
        })
    })
}

/// A weight that the program gets as a new input.
pub(super) struct NewWeight {
    /// Its name in the state dict.
    pub(super) fqn: String,
    /// The program's name for it.
    pub(super) placeholder: String,
    pub(super) learnable: bool,
    pub(super) tensor: Tensor,
}

/// A graph on its way to a file.
pub(super) struct Writer<'a> {
    pub(super) graph: &'a Graph,
    pub(super) origin: Option<&'a Pt2Origin>,
    /// The program's name for every value.
    pub(super) emitted: HashMap<ValueId, String>,
    pub(super) metas: IndexMap<String, TensorMeta>,
    pub(super) sym_values: IndexMap<String, SymInt>,
    /// Open sizes by their names in the graph.
    pub(super) symbols: HashMap<String, SymInt>,
    /// Names of symbolic sizes that are there, by expression.
    pub(super) sizes: HashMap<String, String>,
    pub(super) nodes: Vec<FileNode>,
    /// Names that are there: inputs and what the nodes so far have made.
    pub(super) made: HashSet<String>,
    /// All names that are taken.
    pub(super) names: HashSet<String>,
    /// Names in the state dict that are taken.
    pub(super) fqns: HashSet<String>,
    /// Names of the file's own inputs that are tensors of it, by those in the state dict.
    pub(super) placeholders: HashMap<&'a str, &'a str>,
    /// The weight of the graph that the tensors of each place are.
    pub(super) twins: HashMap<Place<'a>, &'a WeightName>,
    /// Nodes of the file that have been written.
    pub(super) written: HashSet<usize>,
    /// Nodes of the file that are not in the graph and not written yet.
    pub(super) asides: BTreeSet<usize>,
    /// Which node of the file makes each name.
    pub(super) makers: HashMap<&'a str, usize>,
    pub(super) by_node: HashMap<&'a str, usize>,
    pub(super) new_weights: IndexMap<WeightName, NewWeight>,
    /// Weights that some op learns.
    pub(super) learnable: HashSet<WeightName>,
    pub(super) ranges: Map<String, Value>,
    pub(super) device: Value,
}

impl<'a> Writer<'a> {
    fn new(graph: &'a Graph, origin: Option<&'a Pt2Origin>) -> Self {
        let roles = graph.nodes().iter().flat_map(|node| node.op.weights());
        let is_float = |name: &str| {
            graph
                .weights()
                .get(name)
                .is_some_and(|t| t.dtype().is_float())
        };
        let learnable = roles.filter(|(role, name)| role.is_learnable() && is_float(name));
        let mut writer = Self {
            graph,
            origin,
            emitted: HashMap::new(),
            metas: IndexMap::new(),
            sym_values: IndexMap::new(),
            symbols: HashMap::new(),
            sizes: HashMap::new(),
            nodes: Vec::new(),
            made: HashSet::new(),
            names: HashSet::new(),
            fqns: HashSet::new(),
            placeholders: HashMap::new(),
            twins: HashMap::new(),
            written: HashSet::new(),
            asides: BTreeSet::new(),
            makers: HashMap::new(),
            by_node: HashMap::new(),
            new_weights: IndexMap::new(),
            learnable: learnable.map(|(_, name)| name.clone()).collect(),
            ranges: Map::new(),
            device: json!({ "type": "cpu", "index": null }),
        };
        let Some(origin) = origin else { return writer };
        let module = &origin.program.graph_module;
        for (index, node) in module.graph.nodes.iter().enumerate() {
            for (name, _) in node.made() {
                writer.makers.insert(name, index);
                writer.names.insert(name.to_owned());
            }
            writer.names.extend(node.name().map(str::to_owned));
        }
        for (input, spec) in module
            .graph
            .inputs
            .iter()
            .zip(&module.signature.input_specs)
        {
            if let Some((name, _)) = output_name(input) {
                writer.names.insert(name.to_owned());
                writer.made.insert(name.to_owned());
                if let Some(fqn) = tensor_of(spec) {
                    writer.placeholders.insert(fqn, name);
                }
            }
        }
        writer.fqns.extend(origin.tensors.keys().cloned());
        for (fqn, canonical) in &origin.canonical {
            let place = origin.tensors.get(fqn).map(Stored::place);
            writer.twins.extend(place.map(|place| (place, canonical)));
        }
        for size in module
            .graph
            .tensor_values
            .values()
            .flat_map(|meta| &meta.sizes)
        {
            if let SymInt::AsExpr(expr) = size {
                let name = expr.name().to_owned();
                writer.symbols.entry(name).or_insert_with(|| size.clone());
            }
        }
        if let Some(meta) = module.graph.tensor_values.values().next() {
            writer.device.clone_from(&meta.device);
        }
        writer.by_node = by_node(&origin.groups);
        writer
    }

    pub(super) fn program(&self) -> Option<&'a Program> {
        self.origin.map(|origin| &origin.program)
    }

    pub(super) fn file_nodes(&self) -> &'a [FileNode] {
        self.program().map_or(&[], |p| &p.graph_module.graph.nodes)
    }

    /// All files of the archive.
    fn entries(&mut self, options: &Pt2Options) -> Result<Vec<(String, Bytes)>, Pt2Fault> {
        let (program, tensors) = match self.origin {
            Some(origin) if self.is_untouched(origin) => {
                let tensors = origin.tensors.iter();
                let tensors = tensors.map(|(fqn, stored)| (fqn.clone(), stored.clone()));
                (origin.program.clone(), tensors.collect())
            }
            Some(origin) => self.changed(origin)?,
            None => self.anew()?,
        };
        let model = self.origin.map_or("model", |origin| &origin.model);
        let json = |value: &dyn Fn() -> serde_json::Result<Vec<u8>>| {
            let bytes = value().map_err(|source| Pt2Fault::Encode { source })?;
            Ok::<_, Pt2Fault>(Bytes::from(bytes))
        };
        let mut entries: IndexMap<String, Bytes> = IndexMap::new();
        for kind in [Kind::Weight, Kind::Constant] {
            let own = || tensors.iter().filter(|(_, stored)| stored.kind == kind);
            for (_, stored) in own() {
                let name = format!("{}{}", kind.folder(), stored.payload.path_name);
                entries.insert(name, stored.storage.clone());
            }
            let config: IndexMap<&str, &Payload> = own()
                .map(|(fqn, stored)| (fqn.as_str(), &stored.payload))
                .collect();
            let config = IndexMap::from([("config", config)]);
            entries.insert(kind.config(model), json(&|| serde_json::to_vec(&config))?);
        }
        let text = json(&|| serde_json::to_vec(&program))?;
        entries.insert(format!("models/{model}.json"), text);
        // Sample inputs are a pickle: those of the origin are carried over unread.
        entries.insert(format!("data/sample_inputs/{model}.pt"), Bytes::new());
        entries.insert("archive_format".to_owned(), Bytes::from_static(b"pt2"));
        entries.insert("archive_version".to_owned(), Bytes::from_static(b"0"));
        for (name, data) in self.origin.iter().flat_map(|origin| &origin.extra) {
            entries.insert(name.clone(), data.clone());
        }
        for (name, text) in &options.extra {
            entries.insert(format!("extra/{name}"), text.clone().into());
        }
        entries.insert(".data/version".to_owned(), Bytes::from_static(b"6\n"));
        entries.insert("byteorder".to_owned(), Bytes::from_static(b"little"));
        Ok(entries.into_iter().collect())
    }

    /// True where nothing of what was read has changed.
    fn is_untouched(&self, origin: &Pt2Origin) -> bool {
        let groups = &origin.groups;
        let nodes: usize = groups.iter().map(|group| group.nodes.len()).sum();
        let outputs = self
            .graph
            .outputs()
            .iter()
            .map(|&id| name_in_file(&self.graph.value(id).name));
        let of_file = origin.program.user_outputs();
        nodes == self.graph.nodes().len()
            && (0..groups.len()).all(|group| self.is_still(origin, group))
            && outputs.eq(of_file)
    }

    /// True where the graph's nodes of a group are what they were.
    fn is_still(&self, origin: &Pt2Origin, group: usize) -> bool {
        origin.groups[group].nodes.iter().all(|was| {
            let now = self.graph.node(&was.name);
            now.is_some_and(|now| was.is_still(self.graph, now))
        })
    }

    /// The file's program with what has changed.
    fn changed(&mut self, origin: &'a Pt2Origin) -> Result<(Program, Tensors), Pt2Fault> {
        let kept: HashSet<usize> = (0..origin.groups.len())
            .filter(|&group| self.is_still(origin, group))
            .collect();
        self.name_values()?;
        self.find_asides(origin);
        for node in self.graph.nodes() {
            self.check_memory(origin, node, &kept)?;
        }
        let mut done = HashSet::new();
        for node in self.graph.nodes() {
            let group = self.by_node.get(node.name.as_str()).copied();
            match group.filter(|group| kept.contains(group)) {
                Some(group) => {
                    if done.insert(group) {
                        let places = &origin.groups[group].places;
                        for &place in places {
                            self.keep(place, &node.name)?;
                        }
                    }
                }
                None => self.make(origin, node, group)?,
            }
        }
        self.asides(usize::MAX);
        let mut program = origin.program.clone();
        self.outputs(&mut program)?;
        let tensors = self.inputs(origin, &mut program);
        self.finish(&mut program);
        Ok((program, tensors))
    }

    /// A program of nothing but the graph.
    fn anew(&mut self) -> Result<(Program, Tensors), Pt2Fault> {
        let mut program = program::empty();
        self.name_values()?;
        let mut inputs = Vec::new();
        for &id in self.graph.inputs() {
            let value = self.graph.value(id);
            self.open_sizes(id);
            let name = self.emitted[&id].clone();
            let open = |axis| self.symbols.get(&open_name(&value.name, axis)).cloned();
            let meta = self.meta(id, &open).ok_or_else(|| Pt2Fault::Undescribed {
                value: value.name.clone(),
            })?;
            self.metas.insert(name.clone(), meta);
            self.made.insert(name.clone());
            inputs.push(name);
        }
        for node in self.graph.nodes() {
            if let Op::Opaque(_) = node.op {
                return Err(self.no_form(node, "it is opaque and does not come from such a file"));
            }
            self.emit(node)?;
        }
        let module = &mut program.graph_module;
        module.graph.inputs = inputs.iter().map(|name| tensor_arg(name)).collect();
        let user = |name: &String| json!({ "user_input": { "arg": tensor_arg(name) } });
        module.signature.input_specs = inputs.iter().map(user).collect();
        let outputs: Vec<Value> = (self.graph.outputs().iter())
            .map(|id| tensor_arg(&self.emitted[id]))
            .collect();
        let user = |arg: &Value| json!({ "user_output": { "arg": arg } });
        module.signature.output_specs = outputs.iter().map(user).collect();
        module.graph.outputs = outputs;
        let call = program::call(&inputs, module.graph.outputs.len());
        module.module_call_graph.push(call);
        let tensors = self.new_tensors(&mut program, Vec::new());
        self.finish(&mut program);
        Ok((program, tensors))
    }

    /// The place of the node of the file that makes `name`.
    pub(super) fn maker(&self, name: &str) -> Option<usize> {
        self.makers.get(name).copied()
    }

    /// The place of the node of the file that became the graph's node `name`.
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        let group = &self.origin?.groups[*self.by_node.get(name)?];
        group.places.last().copied()
    }

    /// Adds a node to the program, with what the file says of its results.
    pub(super) fn push(&mut self, node: FileNode) {
        let program = self.program();
        for (name, kind) in node.made() {
            self.made.insert(name.to_owned());
            let Some(graph) = program.map(|p| &p.graph_module.graph) else {
                continue;
            };
            if self.metas.contains_key(name) || self.sym_values.contains_key(name) {
                continue;
            }
            if let (Named::Tensor, Some(meta)) = (kind, graph.tensor_values.get(name)) {
                self.metas.insert(name.to_owned(), meta.clone());
            }
            if let Some(size) = graph.sym_int_values.get(name) {
                self.sym_values.insert(name.to_owned(), size.clone());
                if let SymInt::AsExpr(expr) = size {
                    let known = self.sizes.entry(expr.expr_str.clone());
                    known.or_insert_with(|| name.to_owned());
                }
            }
        }
        self.nodes.push(node);
    }

    /// That `node` cannot be written.
    pub(super) fn no_form(&self, node: &Node, reason: &'static str) -> Pt2Fault {
        Pt2Fault::NoForm {
            node: node.name.clone(),
            op: node.op.kind(),
            reason,
        }
    }
}

/// The tensor of the archive that an input of the signature stands for.
pub(super) fn tensor_of(spec: &Value) -> Option<&str> {
    let keys = [
        ("parameter", "parameter_name"),
        ("buffer", "buffer_name"),
        ("tensor_constant", "tensor_constant_name"),
    ];
    keys.iter()
        .find_map(|(kind, key)| spec.get(kind)?.get(key)?.as_str())
}
