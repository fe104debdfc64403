//! A program on its way to a graph.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use rankfold_graph::ops::{Constant, Opaque};
use rankfold_graph::{
    DType, Dim, Fact, Graph, GraphBuilder, Node, Op, Tensor, ValueId, WeightName, Weights,
};
use serde_json::Value;

use super::Pt2Fault;
use super::arguments::{Named, output_name, tensor_name};
use super::convert::{Arg, Step};
use super::inplace::InPlace;
use super::payload::{self, Stored};
use super::schema::{FileGraph, FileNode, Program};
use crate::imported::{Group, Imported, module_name, unique};

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
    let outputs = user_outputs(program)?;
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

/// The tensors that the program gives its user, in order.
fn user_outputs(program: &Program) -> Result<Vec<String>, Pt2Fault> {
    let module = &program.graph_module;
    let (outputs, specs) = (&module.graph.outputs, &module.signature.output_specs);
    if outputs.len() != specs.len() {
        return Err(Pt2Fault::SignatureLength {
            what: "outputs",
            graph: outputs.len(),
            signature: specs.len(),
        });
    }
    let pairs = outputs.iter().zip(specs);
    let of_user = pairs
        .filter(|(_, spec)| spec.get("user_output").is_some() || spec.get("loss_output").is_some());
    Ok(of_user
        .filter_map(|(o, _)| tensor_name(o).map(str::to_owned))
        .collect())
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

    /// Takes in the program's inputs; returns which weight each of its tensors is.
    fn inputs(
        &mut self,
        specs: &[Value],
        tensors: &IndexMap<String, Stored>,
    ) -> Result<HashMap<String, WeightName>, Pt2Fault> {
        let inputs = &self.file.inputs;
        if inputs.len() != specs.len() {
            return Err(Pt2Fault::SignatureLength {
                what: "inputs",
                graph: inputs.len(),
                signature: specs.len(),
            });
        }
        let mut twins: HashMap<payload::Place<'_>, WeightName> = HashMap::new();
        let mut canonical = HashMap::new();
        for (index, (input, spec)) in inputs.iter().zip(specs).enumerate() {
            let spec = InputSpec::of(spec).ok_or(Pt2Fault::Spec {
                what: "input",
                index,
            })?;
            let name = tensor_name(input).or(output_name(input).map(|(n, _)| n));
            if let (Some(input), Some(spec)) = (name, spec.name)
                && input != spec
            {
                return Err(Pt2Fault::Signature {
                    index,
                    input: input.to_owned(),
                    spec: spec.to_owned(),
                });
            }
            let Some(name) = name.or(spec.name) else {
                continue;
            };
            let slot = match spec.tensor {
                Some(fqn) => {
                    let stored = tensors.get(fqn).ok_or_else(|| Pt2Fault::MissingTensor {
                        tensor: fqn.to_owned(),
                        input: name.to_owned(),
                    })?;
                    match &stored.tensor {
                        None => Slot::Outside,
                        Some(tensor) => {
                            let first = twins.entry(stored.place()).or_insert_with(|| fqn.into());
                            canonical.insert(fqn.to_owned(), first.clone());
                            self.weights.insert(first.clone(), tensor.clone());
                            if spec.learnable {
                                self.learnable.insert(first.clone());
                            }
                            Slot::Weight(first.clone())
                        }
                    }
                }
                None if spec.is_user && tensor_name(input).is_some() => {
                    let meta = self.file.tensor_values.get(name);
                    let fact = meta.and_then(|meta| meta.fact());
                    let fact = fact.ok_or_else(|| Pt2Fault::Undescribed {
                        value: name.to_owned(),
                    })?;
                    let id = self.builder.input(name, fact).map_err(Pt2Fault::graph)?;
                    Slot::Value(id)
                }
                None => Slot::Outside,
            };
            self.define(name, slot)?;
        }
        Ok(canonical)
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
    fn needed(&self, outputs: &[String]) -> Vec<bool> {
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

    /// Adds the graph's nodes for the node at `index`. False where the graph refuses them or they
    /// contradict the program, in which case nothing has happened.
    fn add(&mut self, index: usize, steps: &[Step]) -> Result<bool, Pt2Fault> {
        let node = &self.file.nodes[index];
        let Some((last, before)) = steps.split_last() else {
            return Ok(false);
        };
        let made = node.made();
        let own = || steps.iter().flat_map(|step| &step.weights);
        let mut extended = None;
        if own().next().is_some() {
            let all = extended.insert(self.weights.clone());
            for (name, tensor) in own() {
                all.insert(name.clone(), tensor.clone());
            }
        }
        let weights = extended.as_ref().unwrap_or(&self.weights);
        // Once without consequences.
        let mut previous: Option<Fact> = None;
        for step in steps {
            let facts = step.inputs.iter().map(|arg| match arg {
                Arg::Previous => previous.clone(),
                Arg::Named(name) => self.fact(name),
            });
            let Some(facts) = facts.collect::<Option<Vec<Fact>>>() else {
                return Ok(false);
            };
            let Ok(inferred) = step.op.infer(&facts.iter().collect::<Vec<_>>(), weights) else {
                return Ok(false);
            };
            if std::ptr::eq(step, last) {
                let tells = |(fact, (name, _)): (&Fact, &(&str, Named))| {
                    let told = self
                        .file
                        .tensor_values
                        .get(*name)
                        .and_then(|meta| meta.fact());
                    told.is_some_and(|told| agree(&told, fact))
                };
                let enough = made.len() >= inferred.len();
                let rest_unused = made
                    .iter()
                    .skip(inferred.len())
                    .all(|(n, _)| self.is_unused(n));
                if !enough || !rest_unused || !inferred.iter().zip(&made).all(tells) {
                    return Ok(false);
                }
            }
            previous = inferred.into_iter().next();
        }
        let base = self.name(index, &last.op);
        let mut previous: Option<ValueId> = None;
        let mut group = Group {
            places: vec![index],
            nodes: Vec::new(),
        };
        for (i, step) in steps.iter().enumerate() {
            let is_last = i == before.len();
            let mut inputs = Vec::with_capacity(step.inputs.len());
            for arg in &step.inputs {
                inputs.push(match arg {
                    Arg::Previous => previous.ok_or_else(|| Pt2Fault::Undefined {
                        node: base.clone(),
                        value: String::new(),
                    })?,
                    Arg::Named(name) => self.materialise(name, &base)?,
                });
            }
            for (_, name) in step.op.weights() {
                let new = own().find(|(own, _)| own == name).map(|(_, tensor)| tensor);
                if let Some(tensor) = new.or(self.weights.get(name)) {
                    self.builder.weight(name.clone(), tensor.clone());
                }
            }
            let (name, outputs) = if is_last {
                let outputs = made.iter().map(|(name, _)| (*name).to_owned()).collect();
                (base.clone(), outputs)
            } else {
                (self.unique(format!("{base}.{i}")), Vec::new())
            };
            let values = self.named_node(&name, &step.op, &inputs, &outputs)?;
            group.nodes.push(Imported::blank(&name, &step.op));
            if is_last {
                let rest = made.iter().skip(values.len());
                let ids = made
                    .iter()
                    .zip(&values)
                    .map(|(m, id)| (m.0, Slot::Value(*id)));
                let all: Vec<_> = ids.chain(rest.map(|m| (m.0, Slot::Outside))).collect();
                for (name, slot) in all {
                    self.slots.insert(name.to_owned(), slot);
                }
            }
            previous = values.first().copied();
        }
        self.groups.push(group);
        Ok(true)
    }

    fn named_node(
        &mut self,
        name: &str,
        op: &Op,
        inputs: &[ValueId],
        outputs: &[String],
    ) -> Result<Vec<ValueId>, Pt2Fault> {
        let values = self
            .builder
            .named_node(name, op.clone(), inputs, outputs)
            .map_err(Pt2Fault::graph)?;
        self.names.insert(name.to_owned());
        Ok(values)
    }

    fn opaque(&mut self, index: usize) -> Result<(), Pt2Fault> {
        let node = &self.file.nodes[index];
        let changed = self.in_place.changes.get(&index).map_or(&[][..], |c| c);
        let mut inputs = Vec::new();
        let mut weights: Vec<WeightName> = Vec::new();
        let taken = node.taken().into_iter().map(|(name, _)| name);
        for name in taken.chain(changed.iter().map(String::as_str)) {
            match self.slots.get(name).cloned() {
                Some(Slot::Value(id)) => inputs.push(id),
                Some(Slot::Weight(weight)) => {
                    if let Some(tensor) = self.weights.get(&weight) {
                        self.builder.weight(weight.clone(), tensor.clone());
                        weights.push(weight);
                    }
                }
                Some(Slot::Transposed(..)) => inputs.push(self.materialise(name, &node.target)?),
                Some(Slot::Outside) | None => {}
            }
        }
        let tensors: Vec<&str> = (node.made().into_iter())
            .filter(|(_, kind)| *kind == Named::Tensor)
            .map(|(name, _)| name)
            .collect();
        let file = self.file;
        let fact = |name: &&str| {
            let meta = file.tensor_values.get(*name);
            let meta = meta.ok_or_else(|| Pt2Fault::Undescribed {
                value: (*name).to_owned(),
            })?;
            // Types that the graph does not have pass through it under another name.
            let shape = meta.sizes.iter().map(super::schema::SymInt::dim);
            Ok(meta.fact().unwrap_or_else(|| Fact::new(DType::U8, shape)))
        };
        let mut facts = tensors
            .iter()
            .map(fact)
            .collect::<Result<Vec<Fact>, Pt2Fault>>()?;
        let mut names: Vec<String> = tensors.iter().map(|name| (*name).to_owned()).collect();
        for name in changed {
            facts.push(self.fact(name).unwrap_or(Fact::unshaped(DType::U8)));
            names.push(format!("{name}@{index}"));
        }
        let target = node
            .target
            .strip_prefix("torch.ops.")
            .unwrap_or(&node.target);
        let op = Op::from(Opaque {
            target: target.to_owned(),
            weights,
            outputs: facts,
        });
        let name = self.name_of(index);
        let made = self.named_node(&name, &op, &inputs, &names)?;
        self.groups.push(Group {
            places: vec![index],
            nodes: vec![Imported::blank(&name, &op)],
        });
        for (name, _) in node.made() {
            self.define(name, Slot::Outside)?;
        }
        let seen = tensors
            .iter()
            .copied()
            .chain(changed.iter().map(String::as_str));
        for (name, id) in seen.zip(made) {
            self.slots.insert(name.to_owned(), Slot::Value(id));
        }
        Ok(())
    }

    /// The value of the graph for `name`; tensors of the archive become nodes.
    fn materialise(&mut self, name: &str, taker: &str) -> Result<ValueId, Pt2Fault> {
        let undefined = || Pt2Fault::Undefined {
            node: taker.to_owned(),
            value: name.to_owned(),
        };
        match self.slots.get(name).cloned().ok_or_else(undefined)? {
            Slot::Value(id) => Ok(id),
            Slot::Transposed(index, _) => {
                self.slots.remove(name);
                let made = match self.convert(&self.file.nodes[index]) {
                    Some(steps) => self.add(index, &steps)?,
                    None => false,
                };
                if !made {
                    self.opaque(index)?;
                }
                match self.slots.get(name) {
                    Some(Slot::Value(id)) => Ok(*id),
                    _ => Err(undefined()),
                }
            }
            Slot::Weight(weight) => {
                if let Some(id) = self.constants.get(name) {
                    return Ok(*id);
                }
                let op = Op::from(Constant {
                    weight: weight.clone(),
                    learnable: self.learnable.contains(&weight),
                });
                if let Some(tensor) = self.weights.get(&weight) {
                    self.builder.weight(weight.clone(), tensor.clone());
                }
                let node = self.unique(weight.to_string());
                let made = self.named_node(&node, &op, &[], &[name.to_owned()])?;
                self.groups.push(Group {
                    places: Vec::new(),
                    nodes: vec![Imported::blank(&node, &op)],
                });
                self.constants.insert(name.to_owned(), made[0]);
                Ok(made[0])
            }
            Slot::Outside => Err(undefined()),
        }
    }

    /// A name for the graph's node: the module's where a weight tells it, the file's otherwise.
    fn name(&self, index: usize, op: &Op) -> String {
        module_name(op, &self.names).unwrap_or_else(|| self.name_of(index))
    }

    fn name_of(&self, index: usize) -> String {
        self.unique(self.describe(index))
    }

    fn unique(&self, name: String) -> String {
        unique(name, &self.names)
    }

    /// The file's name for a node.
    fn describe(&self, index: usize) -> String {
        let node = &self.file.nodes[index];
        let first = || node.made().first().map(|(name, _)| *name);
        match node.name().filter(|n| !n.is_empty()).or_else(first) {
            Some(name) => name.to_owned(),
            None => format!("{} #{index}", node.target),
        }
    }
}

/// False where a description contradicts what is known.
pub(super) fn agree(described: &Fact, known: &Fact) -> bool {
    described.dtype == known.dtype
        && match (&described.shape, &known.shape) {
            (Some(a), Some(b)) => {
                let fits = |(a, b): (&Dim, &Dim)| a.may_equal(b);
                a.len() == b.len() && a.iter().zip(b).all(fits)
            }
            _ => true,
        }
}

/// What the signature says of an input.
struct InputSpec<'a> {
    name: Option<&'a str>,
    /// The tensor that it stands for.
    tensor: Option<&'a str>,
    learnable: bool,
    is_user: bool,
}

impl<'a> InputSpec<'a> {
    fn of(spec: &'a Value) -> Option<Self> {
        let (kind, spec) = spec.as_object()?.iter().next()?;
        let text = |key: &str| spec.get(key)?.as_str();
        let name = || spec.get("arg")?.get("name")?.as_str();
        let tensor = |key: &str| {
            Some(Self {
                name: Some(name()?),
                tensor: Some(text(key)?),
                learnable: kind == "parameter",
                is_user: false,
            })
        };
        match kind.as_str() {
            "parameter" => tensor("parameter_name"),
            "buffer" => tensor("buffer_name"),
            "tensor_constant" => tensor("tensor_constant_name"),
            "user_input" => Some(Self {
                name: output_name(spec.get("arg")?).map(|(name, _)| name),
                tensor: None,
                learnable: false,
                is_user: true,
            }),
            "constant_input" => Some(Self {
                name: text("name"),
                tensor: None,
                learnable: false,
                is_user: false,
            }),
            _ => Some(Self {
                name: name(),
                tensor: None,
                learnable: false,
                is_user: false,
            }),
        }
    }
}
