//! From an ONNX file to a graph.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use prost::Message;
use rankfold_graph::ops::{Constant, Opaque};
use rankfold_graph::{DType, Fact, Graph, GraphBuilder, GraphError, Node, Op, Tensor, ValueId};

use super::convert::{Arg, Step};
use super::fuse::Fusions;
use super::ints::Ints;
use super::origin::{Initializer, OnnxOrigin};
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::tensor::{Tensors, fact_of};
use super::{NEWEST, OLDEST, OnnxFault};
use crate::error::FormatError;
use crate::imported::{Group, Imported, module_name, unique};
use crate::map::Mapping;

/// The model in the ONNX file at `path` as a graph, and what writing it back needs.
///
/// Weights are views of the mapped file. Nodes that are not understood are opaque, among them those
/// whose attributes have no counterpart in the graph; computations of shapes disappear into the
/// nodes that they serve.
pub fn read_onnx(path: &Path) -> Result<(Graph, OnnxOrigin), FormatError> {
    let mapping = Mapping::open(path)?;
    crate::kind::of_plain(path, &mapping.bytes()).and_then(|kind| match kind {
        crate::FileKind::Onnx => Ok(()),
        got => Err(FormatError::WrongKind {
            path: path.to_owned(),
            expected: "an ONNX model",
            got,
        }),
    })?;
    import(path, mapping).map_err(|fault| FormatError::Onnx {
        path: path.to_owned(),
        fault,
    })
}

/// What a name of the file stands for.
#[derive(Debug, Clone, Copy)]
enum Slot {
    /// A value of the graph.
    Value(ValueId),
    /// A tensor: an initializer or the output of a `Constant`.
    Constant,
    /// The output of a node that computes shapes, not in the graph unless something asks for it.
    Deferred(usize),
}

/// A file on its way to a graph.
pub(super) struct Import<'a> {
    pub(super) builder: GraphBuilder,
    pub(super) opset: i64,
    nodes: &'a [NodeProto],
    mappings: &'a [Mapping],
    slots: HashMap<&'a str, Slot>,
    constants: IndexMap<&'a str, Tensor>,
    /// Matrices that are constants transposed: name and source.
    pub(super) transposed: HashMap<&'a str, &'a str>,
    pub(super) known_ints: HashMap<&'a str, Ints>,
    facts: HashMap<&'a str, Fact>,
    /// The nodes that take each name.
    pub(super) takers: HashMap<&'a str, Vec<usize>>,
    /// The node that makes each name.
    makers: HashMap<&'a str, usize>,
    groups: Vec<Group>,
    names: HashSet<String>,
    /// How many deferred nodes each deferred value stands on.
    depths: HashMap<&'a str, usize>,
}

/// Longer chains of deferred nodes are taken apart, so that materialising them is no deep recursion.
const DEEPEST: usize = 128;

fn import(path: &Path, mapping: Mapping) -> Result<(Graph, OnnxOrigin), OnnxFault> {
    let mut model = ModelProto::decode(mapping.bytes()).map_err(OnnxFault::Decode)?;
    let mut graph = model.graph.take().ok_or(OnnxFault::NoGraph)?;
    let opset = model
        .opset_import
        .iter()
        .find(|o| matches!(o.domain(), "" | "ai.onnx"));
    let opset = opset.map_or(0, |o| o.version());
    if !(OLDEST..=NEWEST).contains(&opset) {
        return Err(OnnxFault::Opset { got: opset });
    }
    let (initializers, files) = initializers(path, &mut graph)?;
    let (beside, data): (Vec<PathBuf>, Vec<Mapping>) = files.into_iter().unzip();
    let mappings: Vec<Mapping> = std::iter::once(mapping).chain(data).collect();
    let mut import = Import::new(&graph, &initializers, opset, &mappings)?;
    import.inputs(&graph, &initializers)?;
    let fusions = Fusions::find(&import);
    for index in 0..graph.node.len() {
        import.node(index, &fusions)?;
    }
    let mut outputs = Vec::with_capacity(graph.output.len());
    for output in &graph.output {
        outputs.push(import.materialise(output.name(), "the model")?);
    }
    let Import {
        mut builder,
        mut groups,
        ..
    } = import;
    builder.meta_mut().name = graph.name().to_owned();
    let finished = builder.finish(&outputs).map_err(OnnxFault::graph)?;
    let nodes: HashMap<&str, &Node> = (finished.nodes().iter())
        .map(|node| (node.name.as_str(), node))
        .collect();
    for node in groups.iter_mut().flat_map(|group| &mut group.nodes) {
        if let Some(now) = nodes.get(node.name.as_str()) {
            *node = Imported::of(&finished, now);
        }
    }
    model.graph = Some(graph);
    let origin = OnnxOrigin {
        model,
        initializers,
        groups,
        opset,
        mappings,
        beside,
    };
    Ok((finished, origin))
}

/// The initializers by name, and the files that hold their data.
type Initializers = (IndexMap<String, Initializer>, Vec<(PathBuf, Mapping)>);

/// Takes the initializers out of the file's graph.
fn initializers(path: &Path, graph: &mut GraphProto) -> Result<Initializers, OnnxFault> {
    let mut tensors = Tensors::beside(path);
    let mut all = IndexMap::with_capacity(graph.initializer.len());
    for mut proto in std::mem::take(&mut graph.initializer) {
        let name = proto.name().to_owned();
        let tensor = tensors.read(&proto)?;
        if tensor.is_some() {
            proto = TensorProto {
                dims: proto.dims,
                data_type: proto.data_type,
                name: proto.name,
                doc_string: proto.doc_string,
                metadata_props: proto.metadata_props,
                ..TensorProto::default()
            };
        }
        if all
            .insert(name.clone(), Initializer { proto, tensor })
            .is_some()
        {
            return Err(OnnxFault::Duplicate { name });
        }
    }
    Ok((all, tensors.into_files()))
}

impl<'a> Import<'a> {
    fn new(
        graph: &'a GraphProto,
        initializers: &'a IndexMap<String, Initializer>,
        opset: i64,
        mappings: &'a [Mapping],
    ) -> Result<Self, OnnxFault> {
        let mut takers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, node) in graph.node.iter().enumerate() {
            for name in taken(node) {
                takers.entry(name).or_default().push(index);
            }
        }
        let makers = graph.node.iter().enumerate();
        let makers = makers.flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), i)));
        // A graph output counts as a taker that nothing can be fused with.
        for output in &graph.output {
            takers.entry(output.name()).or_default().push(usize::MAX);
        }
        let described = graph.value_info.iter().chain(&graph.output);
        let mut import = Self {
            builder: GraphBuilder::new(""),
            opset,
            nodes: &graph.node,
            mappings,
            slots: HashMap::new(),
            constants: IndexMap::new(),
            transposed: HashMap::new(),
            known_ints: HashMap::new(),
            facts: described
                .filter_map(|v| Some((v.name(), fact_of(v)?)))
                .collect(),
            takers,
            makers: makers.collect(),
            groups: Vec::new(),
            names: HashSet::new(),
            depths: HashMap::new(),
        };
        for (name, initializer) in initializers {
            import.slots.insert(name, Slot::Constant);
            if let Some(tensor) = &initializer.tensor {
                import.constants.insert(name, tensor.clone());
            }
        }
        for node in &graph.node {
            if let ("Constant", [output]) = (node.op_type(), &node.output[..])
                && let Some(tensor) = import.constant_node(node)?
            {
                import.constants.insert(output, tensor);
            }
        }
        Ok(import)
    }

    fn inputs(
        &mut self,
        graph: &'a GraphProto,
        initializers: &IndexMap<String, Initializer>,
    ) -> Result<(), OnnxFault> {
        for input in &graph.input {
            let name = input.name();
            if initializers.contains_key(name) {
                continue;
            }
            let fact = fact_of(input).ok_or_else(|| OnnxFault::Input {
                input: name.to_owned(),
            })?;
            let id = self.builder.input(name, fact).map_err(OnnxFault::graph)?;
            self.slots.insert(name, Slot::Value(id));
        }
        Ok(())
    }

    /// The tensor of a `Constant` node, whichever way it is given.
    fn constant_node(&self, node: &NodeProto) -> Result<Option<Tensor>, OnnxFault> {
        if !node.is_standard() {
            return Ok(None);
        }
        if let Some(proto) = node.tensor("value") {
            return Tensors::beside(Path::new("")).read(proto);
        }
        let attribute = node.attribute.first();
        Ok(attribute.and_then(|a| match a.name() {
            "value_int" => Tensor::from_i64(vec![], vec![a.i?]).ok(),
            "value_ints" => Tensor::from_i64(vec![a.ints.len()], a.ints.clone()).ok(),
            "value_float" => Tensor::from_f32(vec![], vec![a.f?]).ok(),
            "value_floats" => Tensor::from_f32(vec![a.floats.len()], a.floats.clone()).ok(),
            _ => None,
        }))
    }

    /// A tensor that is an attribute of a node.
    pub(super) fn small_tensor(&self, proto: &TensorProto) -> Option<Tensor> {
        Tensors::beside(Path::new("")).read(proto).ok()?
    }

    /// All nodes of the file.
    pub(super) fn nodes(&self) -> &'a [NodeProto] {
        self.nodes
    }

    /// The place of the node that makes `name`.
    pub(super) fn maker(&self, name: &str) -> Option<usize> {
        self.makers.get(name).copied()
    }

    /// The tensor that `name` stands for.
    pub(super) fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants.get(name)
    }

    /// All tensors in the order of the file.
    pub(super) fn constants(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.constants.iter().map(|(name, tensor)| (*name, tensor))
    }

    /// Takes what is left of a copied tensor out of memory.
    pub(super) fn release(&self, tensor: &Tensor) {
        for mapping in self.mappings {
            mapping.release(tensor.bytes());
        }
    }

    /// The value that `name` stands for.
    pub(super) fn value(&self, name: &str) -> Option<ValueId> {
        match self.slots.get(name) {
            Some(Slot::Value(id)) => Some(*id),
            _ => None,
        }
    }

    /// What is known of the value `name`.
    pub(super) fn fact(&self, name: &str) -> Option<Fact> {
        if let Some(tensor) = self.constant(name) {
            let shape = tensor.shape().iter().map(|&n| n.into());
            return Some(Fact::new(tensor.dtype(), shape));
        }
        self.value(name).map(|id| self.builder.fact(id).clone())
    }

    /// Makes the tensor `name` a weight of the graph.
    pub(super) fn keep(&mut self, name: &str) {
        if let Some(tensor) = self.constants.get(name) {
            self.builder.weight(name, tensor.clone());
        }
    }

    fn node(&mut self, index: usize, fusions: &Fusions) -> Result<(), OnnxFault> {
        let node = &self.nodes[index];
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if self.slots.contains_key(output.as_str()) {
                return Err(OnnxFault::Duplicate {
                    name: output.clone(),
                });
            }
        }
        if let Some(name) = taken(node).find(|n| !self.slots.contains_key(n) && !fusions.inside(n))
        {
            return Err(OnnxFault::Undefined {
                node: self.describe(index),
                value: name.to_owned(),
            });
        }
        if fusions.absorbs(index) {
            return Ok(());
        }
        if let Some(fused) = fusions.ending_at(index) {
            let steps = fused.steps(self);
            if self.add(&fused.protos, index, &steps)? {
                return Ok(());
            }
            // They do not mean that after all.
            for &other in &fused.protos {
                self.plain(other)?;
            }
            return Ok(());
        }
        self.plain(index)
    }

    /// A node by itself.
    fn plain(&mut self, index: usize) -> Result<(), OnnxFault> {
        let node = &self.nodes[index];
        if let [output] = &node.output[..] {
            if self.constants.contains_key(output.as_str()) {
                self.slots.insert(output, Slot::Constant);
                return Ok(());
            }
            let below = taken(node).filter_map(|name| self.depths.get(name)).max();
            let depth = below.map_or(0, |d| d + 1);
            if depth <= DEEPEST && self.defer(node, output) {
                self.depths.insert(output, depth);
                self.slots.insert(output, Slot::Deferred(index));
                return Ok(());
            }
        }
        if let Some(steps) = self.convert(node)
            && self.add(&[index], index, &steps)?
        {
            return Ok(());
        }
        self.opaque(index)
    }

    /// True where `output` follows from shapes and constants, and is remembered as that.
    fn defer(&mut self, node: &'a NodeProto, output: &'a str) -> bool {
        if let Some(source) = self.transposed_constant(node) {
            self.transposed.insert(output, source);
        } else if let Some(ints) = self.evaluate(node) {
            self.known_ints.insert(output, ints);
        } else if let Some(tensor) = self.fold(node) {
            self.constants.insert(output, tensor);
        } else {
            return false;
        }
        true
    }

    /// The constant matrix that `node` does nothing but transpose.
    fn transposed_constant(&self, node: &'a NodeProto) -> Option<&'a str> {
        let source = node.arg(0)?;
        let is_matrix = self.constant(source)?.shape().len() == 2;
        let swaps = node.ints("perm").is_none_or(|p| p == [1, 0]);
        (node.is_standard() && node.op_type() == "Transpose" && is_matrix && swaps)
            .then_some(source)
    }

    /// Adds the graph's nodes for `protos`, whose last is `index`. False where the graph refuses
    /// them, in which case nothing has happened.
    fn add(&mut self, protos: &[usize], index: usize, steps: &[Step]) -> Result<bool, OnnxFault> {
        let node = &self.nodes[index];
        let Some((last, _)) = steps.split_last() else {
            return Ok(false);
        };
        let base = self.name(index, &last.op);
        let mut previous: Option<ValueId> = None;
        let mut group = Group {
            places: protos.to_vec(),
            nodes: Vec::new(),
        };
        for (i, step) in steps.iter().enumerate() {
            let is_last = i + 1 == steps.len();
            let mut inputs = Vec::with_capacity(step.inputs.len());
            for arg in &step.inputs {
                inputs.push(match arg {
                    Arg::Previous => previous.ok_or(OnnxFault::NoGraph)?,
                    Arg::Named(name) => self.materialise(name, node.op_type())?,
                    Arg::Value(id) => *id,
                });
            }
            let name = if is_last {
                base.clone()
            } else {
                self.unique(format!("{base}.{i}"))
            };
            let outputs = if is_last {
                self.output_names(index, &name)
            } else {
                Vec::new()
            };
            for (weight, tensor) in &step.weights {
                self.builder.weight(weight.clone(), tensor.clone());
            }
            let made = match self
                .builder
                .named_node(&name, step.op.clone(), &inputs, &outputs)
            {
                Ok(made) => made,
                Err(GraphError::Op { .. }) if i == 0 => return Ok(false),
                Err(e) => return Err(OnnxFault::graph(e)),
            };
            self.names.insert(name.clone());
            group.nodes.push(Imported::blank(&name, &step.op));
            if is_last {
                for (output, id) in node.output.iter().zip(&made) {
                    self.slots.insert(output, Slot::Value(*id));
                }
            }
            previous = made.first().copied();
        }
        self.groups.push(group);
        Ok(true)
    }

    fn opaque(&mut self, index: usize) -> Result<(), OnnxFault> {
        let node = &self.nodes[index];
        let mut inputs = Vec::new();
        let mut weights = Vec::new();
        for name in taken(node) {
            match self.slots.get(name) {
                Some(Slot::Constant) if self.constants.contains_key(name) => {
                    self.keep(name);
                    weights.push(name.into());
                }
                // A type that the graph does not have stays in the file.
                Some(Slot::Constant) => {}
                Some(_) => inputs.push(self.materialise(name, node.op_type())?),
                None => {}
            }
        }
        let name = self.name_of(index);
        let outputs = self.output_names(index, &name);
        let fact = |output: &String| {
            let known = self.facts.get(output.as_str()).cloned();
            known.unwrap_or(Fact::unshaped(DType::F32))
        };
        let target = match node.domain() {
            "" | "ai.onnx" => node.op_type().to_owned(),
            domain => format!("{domain}.{}", node.op_type()),
        };
        let op = Op::from(Opaque {
            target,
            weights,
            outputs: node.output.iter().map(fact).collect(),
        });
        let made = self
            .builder
            .named_node(&name, op.clone(), &inputs, &outputs)
            .map_err(OnnxFault::graph)?;
        self.groups.push(Group {
            places: vec![index],
            nodes: vec![Imported::blank(&name, &op)],
        });
        self.names.insert(name);
        for (output, id) in node.output.iter().zip(made) {
            self.slots.insert(output, Slot::Value(id));
        }
        Ok(())
    }

    /// The value of the graph for `name`: constants become nodes, deferred nodes opaque ones.
    fn materialise(&mut self, name: &str, taker: &str) -> Result<ValueId, OnnxFault> {
        let undefined = || OnnxFault::Undefined {
            node: taker.to_owned(),
            value: name.to_owned(),
        };
        let (&key, &slot) = self.slots.get_key_value(name).ok_or_else(undefined)?;
        match slot {
            Slot::Value(id) => Ok(id),
            Slot::Deferred(index) if !self.constants.contains_key(key) => {
                self.slots.remove(key);
                let made = match self.convert(&self.nodes[index]) {
                    Some(steps) => self.add(&[index], index, &steps)?,
                    None => false,
                };
                if !made {
                    self.opaque(index)?;
                }
                self.value(key).ok_or_else(undefined)
            }
            Slot::Constant | Slot::Deferred(_) => {
                let learnable = self
                    .constants
                    .get(key)
                    .is_some_and(|t| t.dtype().is_float() && t.len() > 1);
                let op = if self.constants.contains_key(key) {
                    self.keep(key);
                    Op::from(Constant {
                        weight: key.into(),
                        learnable,
                    })
                } else {
                    // A type that the graph does not have: carried through.
                    Op::from(Opaque {
                        target: "Constant".to_owned(),
                        weights: Vec::new(),
                        outputs: vec![Fact::unshaped(DType::F32)],
                    })
                };
                let node = self.unique(key.to_owned());
                let made = self
                    .builder
                    .named_node(&node, op.clone(), &[], &[key.to_owned()])
                    .map_err(OnnxFault::graph)?;
                self.groups.push(Group {
                    places: Vec::new(),
                    nodes: vec![Imported::blank(&node, &op)],
                });
                self.names.insert(node);
                self.slots.insert(key, Slot::Value(made[0]));
                Ok(made[0])
            }
        }
    }

    /// A name for the graph's node: the module's where a weight tells it, the file's otherwise.
    fn name(&self, index: usize, op: &Op) -> String {
        module_name(op, &self.names).unwrap_or_else(|| self.name_of(index))
    }

    /// The file's name of a node, as a path of modules, made unique.
    fn name_of(&self, index: usize) -> String {
        let node = &self.nodes[index];
        let name = node.name().trim_matches('/').replace('/', ".");
        self.unique(if name.is_empty() {
            format!("{}_{index}", node.op_type())
        } else {
            name
        })
    }

    fn unique(&self, name: String) -> String {
        unique(name, &self.names)
    }

    /// Names for the outputs; those that the file leaves out get one of ours.
    fn output_names(&self, index: usize, node: &str) -> Vec<String> {
        let outputs = self.nodes[index].output.iter().enumerate();
        let name = |(i, output): (usize, &String)| match output.as_str() {
            "" => format!("{node}:{i}"),
            _ => output.clone(),
        };
        outputs.map(name).collect()
    }

    fn describe(&self, index: usize) -> String {
        let node = &self.nodes[index];
        match node.name() {
            "" => format!("{} #{index}", node.op_type()),
            name => name.to_owned(),
        }
    }
}

/// The names that a node takes, those that its subgraphs take from outside among them.
pub(super) fn taken(node: &NodeProto) -> impl Iterator<Item = &str> {
    let own = node
        .input
        .iter()
        .map(String::as_str)
        .filter(|n| !n.is_empty());
    let graphs = node
        .attribute
        .iter()
        .flat_map(|a| a.g.iter().chain(&a.graphs));
    own.chain(graphs.flat_map(captured))
}

fn captured(graph: &GraphProto) -> Vec<&str> {
    let inputs = graph.input.iter().map(|v| v.name());
    let tensors = graph.initializer.iter().map(|t| t.name());
    let mut inside: HashSet<&str> = inputs.chain(tensors).collect();
    let mut outside = Vec::new();
    for node in &graph.node {
        outside.extend(taken(node).filter(|n| !inside.contains(n)));
        inside.extend(node.output.iter().map(String::as_str));
    }
    let outputs = graph.output.iter().map(|v| v.name());
    outside.extend(outputs.filter(|n| !n.is_empty() && !inside.contains(n)));
    outside
}
