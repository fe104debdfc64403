//! What a program keeps of the one that was read: nodes as they were, and what those need.

use std::collections::{HashMap, HashSet};

use rankfold_graph::{Node, Op, ValueId};
use serde_json::json;

use super::Pt2Fault;
use super::arguments::{Named, rename, tensor_arg};
use super::import::agree;
use super::names::name_in_file;
use super::origin::Pt2Origin;
use super::schema::{FileNode, TensorMeta};
use super::write::Writer;

impl<'a> Writer<'a> {
    /// Refuses to change what lies in memory that an op writes to behind the others' backs.
    pub(super) fn check_memory(
        &self,
        origin: &Pt2Origin,
        node: &Node,
        kept: &HashSet<usize>,
    ) -> Result<(), Pt2Fault> {
        let is_kept = self
            .by_node
            .get(node.name.as_str())
            .is_some_and(|g| kept.contains(g));
        let shared = &origin.in_place.shared;
        if is_kept || shared.is_empty() {
            return Ok(());
        }
        let touches = |id: &ValueId| {
            let name = &self.graph.value(*id).name;
            shared.contains(name_in_file(name))
        };
        match node.inputs.iter().chain(&node.outputs).any(touches) {
            false => Ok(()),
            true => Err(Pt2Fault::Shared {
                node: node.name.clone(),
            }),
        }
    }

    /// Writes the node at `place` of the file as it was, and before it what it needs besides.
    pub(super) fn keep(&mut self, place: usize, node: &str) -> Result<(), Pt2Fault> {
        self.asides(place);
        let mut json = self.file_nodes()[place].clone();
        self.need(&mut json, node)?;
        if let Some(twin) = self.origin.and_then(|o| o.in_place.twins.get(&place)) {
            json.target.clone_from(twin);
            // Of all twins this alone has another name for what the other writes to.
            if twin == "torch.ops.aten.dropout.default" {
                let first = json.inputs.iter_mut().take(1);
                first.for_each(|first| first.name = "input".to_owned());
            }
        }
        self.written.insert(place);
        self.push(json);
        Ok(())
    }

    /// Writes what `json` needs and what is not there yet: arithmetic of sizes, transposed weights.
    pub(super) fn need(&mut self, json: &mut FileNode, node: &str) -> Result<(), Pt2Fault> {
        let file = self.file_nodes();
        let mut open: Vec<(usize, bool)> = Vec::new();
        let missing = |writer: &Self, json: &FileNode| -> Vec<(String, Named)> {
            let names = json.taken().into_iter();
            let names = names.filter(|(name, _)| !writer.made.contains(*name));
            names.map(|(name, kind)| (name.to_owned(), kind)).collect()
        };
        let undefined = |name: &str| Pt2Fault::Undefined {
            node: node.to_owned(),
            value: name.to_owned(),
        };
        for (name, kind) in missing(self, json) {
            match self.makers.get(name.as_str()) {
                Some(&maker) => open.push((maker, false)),
                None if kind == Named::Tensor => return Err(undefined(&name)),
                None => {}
            }
        }
        while let Some((index, ready)) = open.pop() {
            if self.written.contains(&index) {
                continue;
            }
            let mut helper = file[index].clone();
            self.measure_elsewhere(&mut helper);
            if ready {
                self.written.insert(index);
                self.push(helper);
                continue;
            }
            // Only what is not in the graph can be written out of turn.
            let name = helper.made().first().map(|(name, _)| (*name).to_owned());
            let in_graph = name
                .as_ref()
                .is_some_and(|name| self.graph.value_id(name).is_some());
            if in_graph || open.len() > file.len() * 2 {
                return Err(undefined(&name.unwrap_or_default()));
            }
            open.push((index, true));
            for (name, kind) in missing(self, &helper) {
                match self.makers.get(name.as_str()) {
                    Some(&maker) if maker < index => open.push((maker, false)),
                    Some(_) => return Err(undefined(&name)),
                    None if kind == Named::Tensor => return Err(undefined(&name)),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Lets a node that measures a value which is no longer there measure another of that size.
    fn measure_elsewhere(&self, node: &mut FileNode) {
        if node.aten() != Some("sym_size.int") {
            return;
        }
        if node.tensor("self").is_none_or(|of| self.made.contains(of)) {
            return;
        }
        let values = self.program().map(|p| &p.graph_module.graph.sym_int_values);
        let wanted = node.made().first().and_then(|(name, _)| values?.get(*name));
        let Some(wanted) = wanted else { return };
        let found = self.made.iter().filter_map(|name| {
            let sizes = &self.metas.get(name).or_else(|| self.file_meta(name))?.sizes;
            let axis = sizes.iter().position(|size| size.dim() == wanted.dim())?;
            Some((name, axis))
        });
        let Some((name, axis)) = found.min() else {
            return;
        };
        for input in &mut node.inputs {
            match input.name.as_str() {
                "self" => input.arg = tensor_arg(name),
                "dim" => input.arg = json!({ "as_int": axis }),
                _ => {}
            }
        }
    }

    /// What the file says of a value, where it is still true.
    pub(super) fn file_meta(&self, name: &str) -> Option<&'a TensorMeta> {
        self.program()?.graph_module.graph.tensor_values.get(name)
    }

    /// Writes a node anew; one that is not understood as it was, with the names it has now.
    pub(super) fn make(
        &mut self,
        origin: &'a Pt2Origin,
        node: &Node,
        group: Option<usize>,
    ) -> Result<(), Pt2Fault> {
        let Op::Opaque(opaque) = &node.op else {
            return self.emit(node);
        };
        let group = group.map(|group| &origin.groups[group]);
        let Some((group, &[place])) = group.map(|g| (g, &g.places[..])).and_then(|(g, p)| {
            let place: &[usize; 1] = p.try_into().ok()?;
            Some((g, place))
        }) else {
            return Err(self.no_form(node, "it is opaque and does not come from such a file"));
        };
        let now = node
            .inputs
            .iter()
            .chain(&node.outputs)
            .map(|id| &self.emitted[id]);
        let mut renamed: HashMap<String, String> =
            group.wires().cloned().zip(now.cloned()).collect();
        let weights = group.nodes.iter().flat_map(|n| n.op.weights());
        for ((_, was), now) in weights.zip(&opaque.weights) {
            let to = self.weight(now)?;
            for (fqn, canonical) in &origin.canonical {
                if canonical == was
                    && let Some(&placeholder) = self.placeholders.get(fqn.as_str())
                {
                    renamed.insert(placeholder.to_owned(), to.clone());
                }
            }
        }
        let mut json = self.file_nodes()[place].clone();
        let to = |name: &str| renamed.get(name).cloned();
        json.inputs
            .iter_mut()
            .for_each(|input| rename(&mut input.arg, &to));
        json.outputs
            .iter_mut()
            .for_each(|output| rename(output, &to));
        self.need(&mut json, &node.name)?;
        self.written.insert(place);
        for (&id, output) in node.outputs.iter().zip(&opaque.outputs) {
            let name = self.emitted[&id].clone();
            if self
                .file_meta(&name)
                .is_none_or(|m| m.fact().is_none_or(|f| !agree(&f, output)))
            {
                let meta = self.meta(id, &|_| None);
                let meta = meta.ok_or_else(|| self.no_form(node, "a size is not known"))?;
                self.metas.insert(name, meta);
            }
        }
        self.push(json);
        Ok(())
    }

    /// Keeps what the file computes before `end` besides its outputs: checks, counters, other results.
    ///
    /// They stay where they were, because PyTorch takes nodes of a module that lie apart for several
    /// calls of it.
    pub(super) fn asides(&mut self, end: usize) {
        let nodes = self.file_nodes();
        let waiting: Vec<usize> = self.asides.range(..end).copied().collect();
        for index in waiting {
            let mut json = nodes[index].clone();
            if self.need(&mut json, "").is_ok() {
                self.asides.remove(&index);
                if self.written.insert(index) {
                    self.push(json);
                }
            }
        }
    }

    /// The nodes of the file that are neither in the graph nor needed by what is.
    pub(super) fn find_asides(&mut self, origin: &Pt2Origin) {
        let of_graph: HashSet<usize> = (origin.groups.iter())
            .flat_map(|group| group.places.iter().copied())
            .collect();
        let values: HashSet<&str> = (self.graph.values().iter())
            .map(|value| value.name.as_str())
            .collect();
        let nodes = origin.program.graph_module.graph.nodes.iter().enumerate();
        let aside = nodes.filter(|(index, node)| {
            let made = node.made();
            let is_size = !made.is_empty() && made.iter().all(|(_, kind)| *kind == Named::Other);
            let in_graph = made.iter().any(|(name, _)| values.contains(name));
            !is_size && !in_graph && !of_graph.contains(index)
        });
        self.asides = aside.map(|(index, _)| index).collect();
    }
}
