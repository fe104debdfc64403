//! The graph's nodes for those of the program: understood, opaque, or made when something asks for them.

use rankfold_graph::ops::{Constant, Opaque};
use rankfold_graph::{DType, Dim, Fact, Op, ValueId, WeightName};

use super::{Import, Slot};
use crate::imported::{Group, Imported, module_name, unique};
use crate::pt2::Pt2Fault;
use crate::pt2::arguments::Named;
use crate::pt2::convert::{Arg, Step};
use crate::pt2::schema::SymInt;

impl Import<'_> {
    /// Adds the graph's nodes for the node at `index`. False where the graph refuses them or they
    /// contradict the program, in which case nothing has happened.
    pub(super) fn add(&mut self, index: usize, steps: &[Step]) -> Result<bool, Pt2Fault> {
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

    pub(super) fn opaque(&mut self, index: usize) -> Result<(), Pt2Fault> {
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
            let shape = meta.sizes.iter().map(SymInt::dim);
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
    pub(super) fn materialise(&mut self, name: &str, taker: &str) -> Result<ValueId, Pt2Fault> {
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
    pub(super) fn describe(&self, index: usize) -> String {
        let node = &self.file.nodes[index];
        let first = || node.made().first().map(|(name, _)| *name);
        match node.name().filter(|n| !n.is_empty()).or_else(first) {
            Some(name) => name.to_owned(),
            None => format!("{} #{index}", node.target),
        }
    }
}

/// False where a description contradicts what is known.
pub(in crate::pt2) fn agree(described: &Fact, known: &Fact) -> bool {
    described.dtype == known.dtype
        && match (&described.shape, &known.shape) {
            (Some(a), Some(b)) => {
                let fits = |(a, b): (&Dim, &Dim)| a.may_equal(b);
                a.len() == b.len() && a.iter().zip(b).all(fits)
            }
            _ => true,
        }
}
