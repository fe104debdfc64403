//! Names in a program: of values, of weights, of open sizes.

use std::collections::HashMap;

use rankfold_graph::{Dim, Op, ValueId, WeightName};
use serde_json::json;

use super::Pt2Fault;
use super::schema::{SymExpr, SymInt};
use super::write::{NewWeight, Writer};

impl<'a> Writer<'a> {
    /// Gives every value its name in the program: its own, where the file has it.
    pub(super) fn name_values(&mut self) -> Result<(), Pt2Fault> {
        let values = self.program().map(|p| &p.graph_module.graph.tensor_values);
        let of_file = |name: &'a str| {
            if values.is_some() {
                name_in_file(name)
            } else {
                name
            }
        };
        let in_file = |name: &str| values.is_some_and(|values| values.contains_key(name));
        let graph = self.graph;
        let inputs = graph.inputs().iter().map(|id| (*id, None));
        let made = graph.nodes().iter().flat_map(|node| {
            let constant = match &node.op {
                Op::Constant(constant) => Some(&constant.weight),
                _ => None,
            };
            node.outputs.iter().map(move |id| (*id, constant))
        });
        let mut emitted = HashMap::new();
        for (id, constant) in inputs.chain(made) {
            let value = &graph.value(id).name;
            let name = match constant {
                Some(weight) => self.weight(weight)?,
                None if in_file(of_file(value)) => of_file(value).to_owned(),
                None => self.fresh(value),
            };
            emitted.insert(id, name);
        }
        self.emitted = emitted;
        Ok(())
    }

    /// A name like `wanted` that nothing has and that Python would take.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let mut base: String = wanted
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        if !base.starts_with(|c: char| c.is_ascii_alphabetic()) {
            base.insert(0, '_');
        }
        if KEYWORDS.contains(&base.as_str()) {
            base.push('_');
        }
        let mut name = base.clone();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            name = format!("{base}_{number}");
            number += 1;
        }
        name
    }

    /// The program's name for a weight of the graph.
    pub(super) fn weight(&mut self, name: &WeightName) -> Result<String, Pt2Fault> {
        let of_file = self.origin.and_then(|origin| {
            (origin.canonical.get(&**name) == Some(name)).then(|| self.placeholders.get(&**name))?
        });
        if let Some(&placeholder) = of_file {
            return Ok(placeholder.to_owned());
        }
        if let Some(known) = self.new_weights.get(name) {
            return Ok(known.placeholder.clone());
        }
        let missing = || Pt2Fault::MissingTensor {
            tensor: name.to_string(),
            input: name.to_string(),
        };
        let tensor = self.graph.weights().get(name).ok_or_else(missing)?.clone();
        let learnable = self.learnable.contains(name);
        let fqn = self.fresh_fqn(name);
        let prefix = if learnable { "p" } else { "b" };
        let placeholder = self.fresh(&format!("{prefix}_{fqn}"));
        self.made.insert(placeholder.clone());
        let weight = NewWeight {
            fqn,
            placeholder: placeholder.clone(),
            learnable,
            tensor,
        };
        self.new_weights.insert(name.clone(), weight);
        Ok(placeholder)
    }

    /// A name in the state dict like `wanted`: free, and neither inside of a tensor nor around one.
    fn fresh_fqn(&mut self, wanted: &str) -> String {
        let clashes = |name: &str| {
            let inside = |outer: &str, inner: &str| {
                inner
                    .strip_prefix(outer)
                    .is_some_and(|rest| rest.starts_with('.'))
            };
            let all = self.fqns.iter();
            all.into_iter()
                .any(|other| name == other || inside(other, name) || inside(name, other))
        };
        let clean = |part: &str| if part.is_empty() { "_" } else { part }.to_owned();
        let base: Vec<String> = wanted.split('.').map(clean).collect();
        let base = base.join(".");
        let numbered = (0..).map(|i| match (i, base.split_once('.')) {
            (0, _) => base.clone(),
            (i, Some((first, rest))) => format!("{first}_{i}.{rest}"),
            (i, None) => format!("{base}_{i}"),
        });
        let name = numbered
            .into_iter()
            .find(|name| !clashes(name))
            .unwrap_or_default();
        self.fqns.insert(name.clone());
        name
    }

    /// Makes a symbol of every size of an input that is not known.
    pub(super) fn open_sizes(&mut self, id: ValueId) {
        let Some(shape) = self.graph.fact(id).shape.clone() else {
            return;
        };
        for (axis, dim) in shape.iter().enumerate() {
            let name = match dim {
                Dim::Fixed(_) => continue,
                Dim::Symbol(name) => name.to_string(),
                Dim::Unknown(()) => open_name(&self.graph.value(id).name, axis),
            };
            if self.symbols.contains_key(&name) {
                continue;
            }
            let symbol = format!("s{}", self.symbols.len());
            let hint = if axis == 0 { 2 } else { 64 };
            let size = SymInt::AsExpr(SymExpr {
                expr_str: format!("Symbol('{symbol}', positive=True, integer=True)"),
                hint: json!({ "as_int": hint }),
            });
            self.symbols.insert(name, size);
            self.ranges
                .insert(symbol, json!({ "min_val": 1, "max_val": null }));
        }
    }
}

/// The program's name for what memory of that name holds after a node has written to it.
pub(super) fn name_in_file(name: &str) -> &str {
    name.split_once('@').map_or(name, |(name, _)| name)
}

/// Words that no Python variable can be called.
const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "self", "try",
    "while", "with", "yield",
];

/// The name under which an open size of an input is remembered.
pub(super) fn open_name(input: &str, axis: usize) -> String {
    format!("{input}:{axis}")
}
