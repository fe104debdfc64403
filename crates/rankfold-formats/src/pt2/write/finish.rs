//! What is left when a program's nodes are written: its outputs, and what it says of its values.

use std::collections::HashSet;

use rankfold_graph::Dim;
use serde_json::Value;

use super::Writer;
use crate::pt2::Pt2Fault;
use crate::pt2::arguments::{Named, output_name, rename, tensor_name};
use crate::pt2::schema::{FileNode, Program, SymInt, TensorMeta, dtype_of};
use crate::pt2::tensors::meta_of;

impl Writer<'_> {
    /// The program's outputs by the names that they have now.
    pub(super) fn outputs(&mut self, program: &mut Program) -> Result<(), Pt2Fault> {
        let mut of_graph = self.graph.outputs().iter();
        let module = &mut program.graph_module;
        for index in 0..module.graph.outputs.len() {
            let spec = &mut module.signature.output_specs[index];
            let Some((name, kind)) = output_name(&module.graph.outputs[index]) else {
                continue;
            };
            let name = name.to_owned();
            let of_user = spec.get("user_output").is_some() || spec.get("loss_output").is_some();
            if of_user && kind == Named::Tensor {
                let Some(id) = of_graph.next() else { break };
                let now = self.emitted[id].clone();
                let to = |old: &str| (old == name).then(|| now.clone());
                rename(&mut module.graph.outputs[index], &to);
                for (_, spec) in spec.as_object_mut().into_iter().flatten() {
                    if let Some(arg) = spec.get_mut("arg") {
                        rename(arg, &to);
                        rename_plain(arg, &to);
                    }
                }
                continue;
            }
            // Something that is computed beside the graph.
            let mut wanted = FileNode::new("", "").arg("", module.graph.outputs[index].clone());
            let lost = |_| Pt2Fault::LostOutput {
                index,
                value: name.clone(),
            };
            self.need(&mut wanted, "").map_err(lost)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, program: &mut Program) {
        let mut metas = std::mem::take(&mut self.metas);
        for weight in self.new_weights.values() {
            if let Some(meta) = meta_of(&weight.tensor, &self.device) {
                let requires_grad = weight.learnable && weight.tensor.dtype().is_float();
                let meta = TensorMeta {
                    requires_grad,
                    ..meta
                };
                metas.insert(weight.placeholder.clone(), meta);
            }
        }
        for (id, name) in &self.emitted {
            let shape = self.graph.value(*id).fact.shape.as_ref();
            if let (Some(shape), Some(meta)) = (shape, metas.get_mut(name)) {
                resize(meta, shape);
            }
        }
        let module = &mut program.graph_module;
        let names: HashSet<&str> = (self.made.iter().map(String::as_str))
            .chain(module.graph.inputs.iter().filter_map(tensor_name))
            .collect();
        metas.retain(|name, _| names.contains(name.as_str()));
        for call in &mut module.module_call_graph {
            let args = ["inputs", "outputs"].map(|key| call.signature.get(key).cloned());
            let args = args.iter().flatten().filter_map(Value::as_array).flatten();
            let lost = args
                .filter_map(output_name)
                .any(|(name, _)| !names.contains(name));
            // The signature of a submodule that speaks of values which are no longer there.
            if lost && !call.fqn.is_empty() {
                call.signature = Value::Null;
            }
        }
        module.graph.tensor_values = metas;
        module.graph.sym_int_values = std::mem::take(&mut self.sym_values);
        module.graph.nodes = std::mem::take(&mut self.nodes);
        if let Some(ranges) = program.range_constraints.as_object_mut() {
            ranges.append(&mut self.ranges);
        }
    }
}

/// Tells of a value the sizes that it has now, where channels were taken out.
fn resize(meta: &mut TensorMeta, shape: &[Dim]) {
    let sizes = meta.sizes.iter().zip(shape).map(|(size, dim)| {
        let now = dim.fixed().map(|now| SymInt::AsInt(now as i64));
        match (size, now) {
            (SymInt::AsInt(_), Some(now)) => now,
            _ => size.clone(),
        }
    });
    let sizes: Vec<SymInt> = sizes.collect();
    if sizes.len() != shape.len() || sizes == meta.sizes {
        return;
    }
    let dtype = dtype_of(meta.dtype);
    let anew = dtype.and_then(|dtype| TensorMeta::contiguous(dtype, sizes, meta.device.clone()));
    if let Some(anew) = anew {
        *meta = TensorMeta {
            requires_grad: meta.requires_grad,
            ..anew
        };
    }
}

/// The name in `{"name": …}`, renamed: the form that some of the signature's entries have.
fn rename_plain(arg: &mut Value, to: &dyn Fn(&str) -> Option<String>) {
    if let Some(Value::String(name)) = arg.get_mut("name")
        && let Some(new) = to(name)
    {
        *name = new;
    }
}
