//! Ops that write to their input: what they mean where nobody sees it, and where somebody does.
//!
//! `relu_(x)` is `relu(x)` as long as everything that reads x afterwards reads the result instead.
//! That does not do where another value is a view of the same memory; such nodes are kept as they
//! are, and what they may have changed counts as made by them.

use std::collections::{HashMap, HashSet};

use super::arguments::{Named, for_each_name, rename, tensor_name};
use super::schema::{FileNode, Program};

/// Ops whose twin without the underscore computes the same from the same arguments.
const TWINS: &[&str] = &[
    "abs",
    "add",
    "celu",
    "clamp",
    "clamp_max",
    "clamp_min",
    "cos",
    "div",
    "dropout",
    "elu",
    "erf",
    "exp",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log",
    "masked_fill",
    "mish",
    "mul",
    "neg",
    "reciprocal",
    "relu",
    "relu6",
    "rsqrt",
    "selu",
    "sigmoid",
    "silu",
    "sin",
    "sqrt",
    "sub",
    "tanh",
];

/// Ops whose result may be a view of their first input.
const VIEWS: &[&str] = &[
    "_reshape_alias",
    "_unsafe_view",
    "adjoint",
    "alias",
    "as_strided",
    "chunk",
    "contiguous",
    "detach",
    "detach_",
    "diagonal",
    "dropout",
    "expand",
    "expand_as",
    "feature_dropout",
    "flatten",
    "lift_fresh",
    "movedim",
    "narrow",
    "numpy_T",
    "permute",
    "ravel",
    "real",
    "reshape",
    "reshape_as",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "tensor_split",
    "to",
    "transpose",
    "type_as",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "view",
    "view_as",
];

/// What the in-place ops of a program mean.
#[derive(Debug, Clone, Default)]
pub(super) struct InPlace {
    /// For each node that can do without writing: the target that does.
    pub(super) twins: HashMap<usize, String>,
    /// For each that cannot: the names whose contents it may change.
    pub(super) changes: HashMap<usize, Vec<String>>,
    /// All names of memory that is written to like that.
    pub(super) shared: HashSet<String>,
}

/// `add_` and `Tensor` of `torch.ops.aten.add_.Tensor`.
fn parts(node: &FileNode) -> Option<(&str, &str)> {
    node.aten()?.split_once('.')
}

/// The name of the op that writes, without its underscore.
fn writes(node: &FileNode) -> Option<&str> {
    let (op, _) = parts(node)?;
    // `detach_` changes no element.
    op.strip_suffix('_')
        .filter(|name| !name.starts_with("__") && !matches!(*name, "" | "detach"))
}

/// Which values look into the same memory.
#[derive(Default)]
struct Memory {
    root: HashMap<String, String>,
    members: HashMap<String, Vec<String>>,
}

impl Memory {
    fn own(&mut self, name: &str) {
        self.join(name, name.to_owned());
    }

    fn join(&mut self, name: &str, root: String) {
        self.members
            .entry(root.clone())
            .or_default()
            .push(name.to_owned());
        self.root.insert(name.to_owned(), root);
    }

    fn root(&self, name: &str) -> String {
        self.root
            .get(name)
            .cloned()
            .unwrap_or_else(|| name.to_owned())
    }
}

/// Finds out, and lets later nodes read the results of those that can do without writing.
pub(super) fn resolve(program: &mut Program) -> InPlace {
    let module = &mut program.graph_module;
    let mut found = InPlace::default();
    if !module.graph.nodes.iter().any(|node| writes(node).is_some()) {
        return found;
    }
    let mut last_use: HashMap<String, usize> = HashMap::new();
    let mut uses: HashMap<String, usize> = HashMap::new();
    for (index, node) in module.graph.nodes.iter().enumerate() {
        for (name, _) in node.taken() {
            last_use.insert(name.to_owned(), index);
            *uses.entry(name.to_owned()).or_default() += 1;
        }
    }
    for output in &module.graph.outputs {
        for_each_name(output, &mut |name, _| {
            last_use.insert(name.to_owned(), usize::MAX);
            *uses.entry(name.to_owned()).or_default() += 1;
        });
    }
    let mut memory = Memory::default();
    let mut placeholders = HashSet::new();
    for name in module.graph.inputs.iter().filter_map(tensor_name) {
        memory.own(name);
        placeholders.insert(name.to_owned());
    }
    let mut newer: HashMap<String, String> = HashMap::new();
    for (index, node) in module.graph.nodes.iter_mut().enumerate() {
        for input in &mut node.inputs {
            rename(&mut input.arg, &|name| newer.get(name).cloned());
        }
        let node = &*node;
        let made: Vec<String> = (node.made().into_iter())
            .filter(|(_, kind)| *kind == Named::Tensor)
            .map(|(name, _)| name.to_owned())
            .collect();
        let first = node
            .inputs
            .first()
            .and_then(|input| tensor_name(&input.arg));
        let Some(op) = writes(node) else {
            let is_view = parts(node).is_some_and(|(op, _)| VIEWS.binary_search(&op).is_ok());
            for name in &made {
                match first.filter(|_| is_view) {
                    Some(source) => memory.join(name, memory.root(source)),
                    None => memory.own(name),
                }
            }
            continue;
        };
        let Some(target) = first else { continue };
        let root = memory.root(target);
        let aliases = memory.members.get(&root).cloned().unwrap_or_default();
        let live = |name: &String| last_use.get(name).is_some_and(|&last| last > index);
        let of_model = placeholders.contains(&root);
        let used = |name: &String| uses.get(name).copied().unwrap_or(0);
        let seen = if of_model {
            aliases.iter().map(used).sum::<usize>() > 1 || made.iter().any(live)
        } else {
            aliases.iter().any(|alias| alias != target && live(alias))
        };
        let known =
            TWINS.binary_search(&op).is_ok() && same_types(node, &module.graph.tensor_values);
        if !seen && (of_model || !aliases.iter().any(live) && !made.iter().any(live)) {
            // Nobody reads it: a counter of batches, say.
            made.iter().for_each(|name| memory.own(name));
        } else if let ([made], true) = (&made[..], known && !seen && !of_model) {
            let (_, overload) = parts(node).unwrap_or_default();
            found
                .twins
                .insert(index, format!("torch.ops.aten.{op}.{overload}"));
            for older in newer.values_mut().filter(|older| *older == target) {
                older.clone_from(made);
            }
            newer.insert(target.to_owned(), made.clone());
            let last = last_use
                .get(target)
                .copied()
                .max(last_use.get(made).copied());
            last_use.extend(last.map(|last| (made.clone(), last)));
            memory.own(made);
        } else {
            let changed = aliases.iter().filter(|name| live(name)).cloned().collect();
            found.changes.insert(index, changed);
            found.shared.extend(aliases);
            found.shared.extend(made.iter().cloned());
            for name in &made {
                memory.join(name, root.clone());
            }
        }
    }
    let rename_output = |arg: &mut serde_json::Value| {
        rename(arg, &|name| newer.get(name).cloned());
    };
    module.graph.outputs.iter_mut().for_each(rename_output);
    for spec in &mut module.signature.output_specs {
        for (_, spec) in spec.as_object_mut().into_iter().flatten() {
            if let Some(arg) = spec.get_mut("arg") {
                rename_output(arg);
            }
        }
    }
    found
}

/// False where the result would be of another type if it were not written to the first argument.
fn same_types(
    node: &FileNode,
    values: &indexmap::IndexMap<String, super::schema::TensorMeta>,
) -> bool {
    let tensors = node
        .inputs
        .iter()
        .filter_map(|input| tensor_name(&input.arg));
    let bool_mask = |name: &&str| values.get(*name).is_none_or(|meta| meta.dtype != 12);
    let mut types = tensors
        .filter(bool_mask)
        .map(|name| values.get(name).map(|m| m.dtype));
    let first = types.next();
    types.all(|other| Some(other) == first)
}

#[cfg(test)]
mod tests {
    use super::{TWINS, VIEWS};

    #[test]
    fn the_tables_are_sorted() {
        assert!(TWINS.is_sorted() && VIEWS.is_sorted());
    }
}
