//! A program's tensors: which stay, which go, which are new.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use rankfold_graph::Tensor;
use serde_json::{Value, json};

use super::arguments::{output_name, tensor_arg, tensor_name};
use super::origin::Pt2Origin;
use super::payload::{Kind, Place, Stored};
use super::schema::{FileNode, Payload, Program, SymInt, TensorMeta};
use super::write::{NewWeight, Writer, tensor_of};
use crate::imported::same;

/// Tensors by their names in the state dict, in order.
pub(super) type Tensors = Vec<(String, Stored)>;

impl<'a> Writer<'a> {
    /// Leaves out inputs that nothing uses any more and adds the new ones.
    pub(super) fn inputs(&mut self, origin: &'a Pt2Origin, program: &mut Program) -> Tensors {
        let file = &origin.program.graph_module;
        let was_used: HashSet<&str> = names_used(&file.graph.nodes, &file.graph.outputs);
        let outputs = program.graph_module.graph.outputs.clone();
        let is_used: HashSet<&str> = names_used(&self.nodes, &outputs);
        let mut dropped: HashSet<&str> = HashSet::new();
        let (mut inputs, mut specs) = (Vec::new(), Vec::new());
        for (input, spec) in file.graph.inputs.iter().zip(&file.signature.input_specs) {
            let name = tensor_name(input).unwrap_or_default();
            let fqn = tensor_of(spec);
            if let Some(fqn) = fqn.filter(|_| was_used.contains(name) && !is_used.contains(name)) {
                dropped.insert(fqn);
                continue;
            }
            inputs.push(input.clone());
            specs.push(spec.clone());
            if let Some(meta) = self.file_meta(name)
                && !self.metas.contains_key(name)
            {
                let mut meta = meta.clone();
                let replaced = fqn.and_then(|fqn| self.replaced(origin, fqn));
                if let Some(new) = replaced.and_then(|tensor| meta_of(tensor, &self.device)) {
                    meta = TensorMeta {
                        requires_grad: meta.requires_grad,
                        ..new
                    };
                }
                self.metas.insert(name.to_owned(), meta);
            } else if let Some((name, _)) = output_name(input)
                && let Some(size) = file.graph.sym_int_values.get(name)
            {
                self.sym_values.insert(name.to_owned(), size.clone());
            }
        }
        program.graph_module.graph.inputs = inputs;
        program.graph_module.signature.input_specs = specs;
        let mut tensors = Vec::new();
        // A tensor stays as long as one of its names is used; one that never was stays anyway.
        let named = origin.canonical.keys().filter_map(|fqn| {
            let place = origin.tensors.get(fqn)?.place();
            Some((place, !dropped.contains(fqn.as_str())))
        });
        let mut stays: HashMap<Place<'_>, bool> = HashMap::new();
        for (place, used) in named {
            *stays.entry(place).or_default() |= used;
        }
        for (fqn, stored) in &origin.tensors {
            if stays.get(&stored.place()) == Some(&false) {
                continue;
            }
            let mut stored = stored.clone();
            if let Some(tensor) = self.replaced(origin, fqn) {
                let is_param = stored.payload.is_param;
                self.replace(&mut stored, tensor, is_param);
            }
            tensors.push((fqn.clone(), stored));
        }
        self.new_tensors(program, tensors)
    }

    /// The graph's tensor for `fqn`, where it is not the file's any more.
    fn replaced(&self, origin: &'a Pt2Origin, fqn: &str) -> Option<&'a Tensor> {
        let place = origin.tensors.get(fqn)?.place();
        let canonical = self.twins.get(&place)?;
        let was = origin.tensors.get(&***canonical)?.tensor.as_ref()?;
        let now = self.graph.weights().get(canonical)?;
        (!same(was, now)).then_some(now)
    }

    fn replace(&self, stored: &mut Stored, tensor: &Tensor, is_param: bool) {
        let requires_grad = is_param && tensor.dtype().is_float();
        stored.payload = Payload {
            path_name: String::new(),
            is_param,
            use_pickle: false,
            tensor_meta: meta_of(tensor, &self.device).map(|meta| TensorMeta {
                requires_grad,
                ..meta
            }),
        };
        stored.storage = tensor.bytes().clone();
        stored.tensor = Some(tensor.clone());
    }

    /// Adds the new weights to the program's inputs and to `tensors`.
    pub(super) fn new_tensors(&mut self, program: &mut Program, mut tensors: Tensors) -> Tensors {
        let module = &mut program.graph_module;
        let is_new = |what: &str, spec: &Value| spec.get(what).is_some();
        let specs = &module.signature.input_specs;
        let after = |what: &str| {
            specs
                .iter()
                .rposition(|spec| is_new(what, spec))
                .map(|i| i + 1)
        };
        let tokens = specs
            .iter()
            .take_while(|spec| is_new("token", spec))
            .count();
        let parameters = after("parameter").unwrap_or(tokens);
        let buffers = after("buffer").unwrap_or(parameters).max(parameters);
        let new: Vec<&NewWeight> = self.new_weights.values().collect();
        let mut add = |at: usize, learnable: bool| {
            let of_kind = new.iter().filter(|weight| weight.learnable == learnable);
            for (at, weight) in (at..).zip(of_kind) {
                let arg = json!({ "name": weight.placeholder });
                let spec = match learnable {
                    true => json!({ "parameter": { "arg": arg, "parameter_name": weight.fqn } }),
                    false => json!({ "buffer": {
                        "arg": arg, "buffer_name": weight.fqn, "persistent": true,
                    } }),
                };
                module.signature.input_specs.insert(at, spec);
                module
                    .graph
                    .inputs
                    .insert(at, tensor_arg(&weight.placeholder));
            }
        };
        add(buffers, false);
        add(parameters, true);
        let new: Vec<(String, bool, Tensor)> = (self.new_weights.values())
            .map(|w| (w.fqn.clone(), w.learnable, w.tensor.clone()))
            .collect();
        for (fqn, learnable, tensor) in new {
            let mut stored = Stored {
                kind: Kind::Weight,
                payload: Payload {
                    path_name: String::new(),
                    is_param: learnable,
                    use_pickle: false,
                    tensor_meta: None,
                },
                storage: Bytes::new(),
                tensor: None,
            };
            self.replace(&mut stored, &tensor, learnable);
            tensors.push((fqn, stored));
        }
        number(&mut tensors);
        tensors
    }
}

/// All names that nodes and outputs take.
fn names_used<'n>(nodes: &'n [FileNode], outputs: &'n [Value]) -> HashSet<&'n str> {
    let taken = nodes.iter().flat_map(FileNode::taken).map(|(name, _)| name);
    taken
        .chain(outputs.iter().filter_map(output_name).map(|(name, _)| name))
        .collect()
}

/// What a contiguous tensor is on `device`.
pub(super) fn meta_of(tensor: &Tensor, device: &Value) -> Option<TensorMeta> {
    let size = |&n: &usize| i64::try_from(n).ok().map(SymInt::AsInt);
    let sizes = tensor.shape().iter().map(size).collect::<Option<_>>()?;
    TensorMeta::contiguous(tensor.dtype(), sizes, device.clone())
}

/// Gives the tensors without one a storage of their own, those of the same bytes the same.
fn number(tensors: &mut Tensors) {
    let named = tensors
        .iter()
        .map(|(_, stored)| (stored.kind, stored.payload.path_name.clone()));
    let mut taken: HashSet<(Kind, String)> = named.collect();
    let mut by_bytes: HashMap<(Kind, *const u8, usize), String> = HashMap::new();
    let mut next: HashMap<Kind, usize> = HashMap::new();
    for (_, stored) in tensors
        .iter_mut()
        .filter(|(_, s)| s.payload.path_name.is_empty())
    {
        let key = (stored.kind, stored.storage.as_ptr(), stored.storage.len());
        if let Some(path) = by_bytes.get(&key).filter(|_| !stored.storage.is_empty()) {
            stored.payload.path_name.clone_from(path);
            continue;
        }
        let number = next.entry(stored.kind).or_default();
        let path = loop {
            let path = format!("{}{number}", stored.kind.prefix());
            *number += 1;
            if taken.insert((stored.kind, path.clone())) {
                break path;
            }
        };
        stored.payload.path_name.clone_from(&path);
        by_bytes.insert(key, path);
    }
}
