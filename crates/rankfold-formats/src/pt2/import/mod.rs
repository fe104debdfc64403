//! A program on its way to a graph.

mod inputs;
mod nodes;

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use rankfold_graph::{Fact, Graph, GraphBuilder, Node, Tensor, ValueId, WeightName, Weights};

pub(super) use self::nodes::agree;
use super::Pt2Fault;
use super::arguments::{Named, output_name};
use super::inplace::InPlace;
use super::payload::Stored;
use super::schema::{FileGraph, FileNode, Program};
use crate::imported::{Group, Imported};

/// What a name of the program stands for.
#[derive(Debug, Clone)]
enum Slot {
    /// A value of the graph.
    Value(ValueId),
    /// A tensor of the archive.
    Weight(WeightName),
    /// A matrix of the archive, transposed by the node there; not in the graph unless asked for.
    Transposed(usize, WeightName),
    /// A size, a token, a tensor of a type that the graph does not have, or what nothing needs.
    Outside,
}

/// A program on its way to a graph.
pub(super) struct Import<'a> {
    pub(super) file: &'a FileGraph,
    pub(super) builder: GraphBuilder,
    /// All tensors of the archive that the program names.
    weights: Weights,
    learnable: HashSet<WeightName>,
    slots: HashMap<String, Slot>,
    /// The node that makes each name.
    makers: HashMap<&'a str, usize>,
    /// How many nodes and outputs take each name.
    takers: HashMap<&'a str, usize>,
    in_place: &'a InPlace,
    groups: Vec<Group>,
    names: HashSet<String>,
    /// Tensors of the archive that are values of the graph, by their names in the program.
    constants: HashMap<String, ValueId>,
}

pub(super) type Imports = (Graph, HashMap<String, WeightName>, Vec<Group>);

/// The graph of `program`, which weight each tensor is, and what became of the nodes.
pub(super) fn import(
    model: &str,
    program: &Program,
    tensors: &IndexMap<String, Stored>,
    in_place: &InPlace,
) -> Result<Imports, Pt2Fault> {
    let module = &program.graph_module;
    let file = &module.graph;
    let mut import = Import::new(file, in_place);
    let canonical = import.inputs(&module.signature.input_specs, tensors)?;
    let (outputs, specs) = (&file.outputs, &module.signature.output_specs);
    if outputs.len() != specs.len() {
        return Err(Pt2Fault::SignatureLength {
            what: "outputs",
            graph: outputs.len(),
            signature: specs.len(),
        });
    }
    let outputs = program.user_outputs();
    let needed = import.needed(&outputs);
    for (index, needed) in needed.into_iter().enumerate() {
        import.node(index, needed)?;
    }
    let outputs = outputs
        .iter()
        .map(|name| import.materialise(name, "the program"))
        .collect::<Result<Vec<_>, _>>()?;
    let Import {
        mut builder,
        mut groups,
        ..
    } = import;
    builder.meta_mut().name = model.to_owned();
    let graph = builder.finish(&outputs).map_err(Pt2Fault::graph)?;
    let nodes: HashMap<&str, &Node> = (graph.nodes().iter())
        .map(|node| (node.name.as_str(), node))
        .collect();
    for node in groups.iter_mut().flat_map(|group| &mut group.nodes) {
        if let Some(now) = nodes.get(node.name.as_str()) {
            *node = Imported::of(&graph, now);
        }
    }
    Ok((graph, canonical, groups))
}

impl<'a> Import<'a> {
    fn new(file: &'a FileGraph, in_place: &'a InPlace) -> Self {
        let mut makers = HashMap::new();
        let mut takers: HashMap<&str, usize> = HashMap::new();
        for (index, node) in file.nodes.iter().enumerate() {
            for (name, _) in node.made() {
                makers.entry(name).or_insert(index);
            }
            for (name, _) in node.taken() {
                *takers.entry(name).or_default() += 1;
            }
        }
        for (name, _) in file.outputs.iter().filter_map(output_name) {
            *takers.entry(name).or_default() += 1;
        }
        Self {
            file,
            builder: GraphBuilder::new(""),
            weights: Weights::new(),
            learnable: HashSet::new(),
            slots: HashMap::new(),
            makers,
            takers,
            in_place,
            groups: Vec::new(),
            names: HashSet::new(),
            constants: HashMap::new(),
        }
    }

    fn define(&mut self, name: &str, slot: Slot) -> Result<(), Pt2Fault> {
        match self.slots.insert(name.to_owned(), slot) {
            None => Ok(()),
            Some(_) => Err(Pt2Fault::Duplicate {
                name: name.to_owned(),
            }),
        }
    }

    /// The nodes that some output depends on.
    fn needed(&self, outputs: &[&str]) -> Vec<bool> {
        let mut needed = vec![false; self.file.nodes.len()];
        let maker = |name: &str| self.makers.get(name).copied();
        let mut open: Vec<usize> = outputs.iter().filter_map(|name| maker(name)).collect();
        open.extend(self.in_place.changes.keys());
        while let Some(index) = open.pop() {
            if !std::mem::replace(&mut needed[index], true) {
                let taken = self.file.nodes[index].taken();
                open.extend(taken.into_iter().filter_map(|(name, _)| maker(name)));
            }
        }
        needed
    }

    /// All nodes of the program.
    pub(super) fn nodes(&self) -> &'a [FileNode] {
        &self.file.nodes
    }

    /// The place of the node that makes `name`.
    pub(super) fn maker(&self, name: &str) -> Option<usize> {
        self.makers.get(name).copied()
    }

    /// True where nothing takes `name`.
    pub(super) fn is_unused(&self, name: &str) -> bool {
        !self.takers.contains_key(name)
    }

    /// The weight that `name` stands for.
    pub(super) fn weight(&self, name: &str) -> Option<(WeightName, &Tensor)> {
        match self.slots.get(name)? {
            Slot::Weight(weight) => Some((weight.clone(), self.weights.get(weight)?)),
            _ => None,
        }
    }

    /// The matrix of which `name` is the transposed.
    pub(super) fn transposed(&self, name: &str) -> Option<(WeightName, &Tensor)> {
        match self.slots.get(name)? {
            Slot::Transposed(_, weight) => Some((weight.clone(), self.weights.get(weight)?)),
            _ => None,
        }
    }

    /// What is known of the value or tensor `name`.
    pub(super) fn fact(&self, name: &str) -> Option<Fact> {
        match self.slots.get(name)? {
            Slot::Value(id) => Some(self.builder.fact(*id).clone()),
            Slot::Weight(weight) => {
                let tensor = self.weights.get(weight)?;
                let shape = tensor.shape().iter().map(|&n| n.into());
                Some(Fact::new(tensor.dtype(), shape))
            }
            Slot::Transposed(..) | Slot::Outside => self.file.tensor_values.get(name)?.fact(),
        }
    }

    fn node(&mut self, index: usize, needed: bool) -> Result<(), Pt2Fault> {
        let node = &self.file.nodes[index];
        let made = node.made();
        if let Some((name, _)) = made.iter().find(|(name, _)| self.slots.contains_key(*name)) {
            return Err(Pt2Fault::Duplicate {
                name: (*name).to_owned(),
            });
        }
        let defined = |name: &str| self.slots.contains_key(name);
        let undefined = |(name, kind): &(&str, Named)| *kind == Named::Tensor && !defined(name);
        if let Some((name, _)) = node.taken().into_iter().find(undefined) {
            return Err(Pt2Fault::Undefined {
                node: self.describe(index),
                value: name.to_owned(),
            });
        }
        let has_tensors = made.iter().any(|(_, kind)| *kind == Named::Tensor);
        let changes = self.in_place.changes.contains_key(&index);
        if !needed || (!has_tensors && !changes) {
            for (name, _) in made {
                self.define(name, Slot::Outside)?;
            }
            return Ok(());
        }
        if let Some(weight) = self.transposed_weight(node) {
            return self.define(made[0].0, Slot::Transposed(index, weight));
        }
        if !changes
            && let Some(steps) = self.convert(node)
            && self.add(index, &steps)?
        {
            return Ok(());
        }
        self.opaque(index)
    }

    /// The matrix of the archive that `node` does nothing but transpose.
    fn transposed_weight(&self, node: &FileNode) -> Option<WeightName> {
        let swaps = match node.aten()? {
            "t.default" => true,
            "permute.default" => node.ints("dims")? == [1, 0],
            "transpose.int" => {
                let mut axes = [node.int("dim0")?, node.int("dim1")?].map(|a| a.rem_euclid(2));
                axes.sort_unstable();
                axes == [0, 1]
            }
            _ => false,
        };
        let (weight, tensor) = self.weight(node.tensor(if swaps { "self" } else { "" })?)?;
        (tensor.shape().len() == 2).then_some(weight)
    }
}
