//! The graph's nodes for those of the file: understood, opaque, or deferred until something asks for
//! them.

use rankfold_graph::ops::{Constant, Opaque};
use rankfold_graph::{DType, Fact, GraphError, Op, ValueId};

use super::{Import, Slot, taken};
use crate::imported::{Group, Imported, module_name, unique};
use crate::onnx::OnnxFault;
use crate::onnx::convert::{Arg, Step};
use crate::onnx::fuse::Fusions;
use crate::onnx::proto::NodeProto;

/// Longer chains of deferred nodes are taken apart, so that materialising them is no deep recursion.
const DEEPEST: usize = 128;

impl<'a> Import<'a> {
    pub(super) fn node(&mut self, index: usize, fusions: &Fusions) -> Result<(), OnnxFault> {
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
        } else if let Some(places) = self.places_of(node) {
            self.places.insert(output, places);
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
    pub(super) fn materialise(&mut self, name: &str, taker: &str) -> Result<ValueId, OnnxFault> {
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
