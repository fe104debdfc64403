//! From an ONNX file to a graph.

mod nodes;
mod taken;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use prost::Message;
use rankfold_graph::{Fact, Graph, GraphBuilder, Node, Tensor, ValueId};

pub(super) use self::taken::taken;
use super::fuse::Fusions;
use super::ints::Ints;
use super::origin::{Initializer, OnnxOrigin};
use super::places::Places;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::tensor::{Tensors, fact_of};
use super::{NEWEST, OLDEST, OnnxFault, weigh};
use crate::error::FormatError;
use crate::imported::{Group, Imported};
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
    /// Indices that look elements up by their place.
    pub(super) places: HashMap<&'a str, Places>,
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

/// Bytes that a decoded model may take, its tensors' numbers apart: millions of nodes.
const MOST: u64 = 1 << 30;

fn import(path: &Path, mapping: Mapping) -> Result<(Graph, OnnxOrigin), OnnxFault> {
    let needed = weigh::decoded(&mapping.bytes());
    if needed > MOST {
        return Err(OnnxFault::TooLarge { needed });
    }
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
            places: HashMap::new(),
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
            if let [output] = &node.output[..]
                && let Some(tensor) = import.dequantized(node)
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
}
