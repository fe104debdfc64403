//! Reading, renaming and making the arguments of a program's nodes.

use serde_json::{Map, Value, json};

use super::schema::{FileNode, NamedArgument};

/// The name in `{"as_tensor": {"name": …}}`.
pub(super) fn tensor_name(arg: &Value) -> Option<&str> {
    arg.get("as_tensor")?.get("name")?.as_str()
}

/// The name of a symbolic number in `{"as_sym_int": {"as_name": …}}` and its likes.
fn symbol_name(arg: &Value) -> Option<&str> {
    let inner = ["as_sym_int", "as_sym_bool", "as_sym_float"]
        .iter()
        .find_map(|key| arg.get(key))?;
    inner.get("as_name")?.as_str()
}

/// What a name in an argument stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Tensor,
    Other,
}

/// Calls `visit` for every name in `arg`, those inside of graphs left out.
pub(super) fn for_each_name<'v>(arg: &'v Value, visit: &mut dyn FnMut(&'v str, Named)) {
    let Value::Object(fields) = arg else { return };
    for (key, value) in fields {
        let kind = match key.as_str() {
            "as_tensor"
            | "as_tensors"
            | "as_optional_tensors"
            | "as_optional_tensor"
            | "as_nested_tensors" => Named::Tensor,
            "as_graph" => continue,
            "as_string_to_argument" => {
                for value in value.as_object().into_iter().flat_map(Map::values) {
                    for_each_name(value, visit);
                }
                continue;
            }
            _ => Named::Other,
        };
        names_inside(value, kind, visit);
    }
}

fn names_inside<'v>(value: &'v Value, kind: Named, visit: &mut dyn FnMut(&'v str, Named)) {
    match value {
        Value::Array(items) => {
            for item in items {
                names_inside(item, kind, visit);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("name" | "as_name", Value::String(name)) => visit(name, kind),
                    ("as_tensor", value) => names_inside(value, kind, visit),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// Gives every name in `arg` the one that `rename` has for it.
pub(super) fn rename(arg: &mut Value, rename: &dyn Fn(&str) -> Option<String>) {
    let Value::Object(fields) = arg else { return };
    for (key, value) in fields.iter_mut() {
        match key.as_str() {
            "as_graph" => {}
            "as_string_to_argument" => {
                for value in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
                    self::rename(value, rename);
                }
            }
            _ => rename_inside(value, rename),
        }
    }
}

fn rename_inside(value: &mut Value, rename: &dyn Fn(&str) -> Option<String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|v| rename_inside(v, rename)),
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                match (key.as_str(), value) {
                    ("name" | "as_name", Value::String(name)) => {
                        if let Some(to) = rename(name) {
                            *name = to;
                        }
                    }
                    ("as_tensor", value) => rename_inside(value, rename),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// A list of sizes, a number or the name of a symbolic one each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Size {
    Int(i64),
    Name(String),
}

impl FileNode {
    /// A node without arguments.
    pub(super) fn new(target: &str, name: &str) -> Self {
        let mut rest = Map::new();
        rest.insert("is_hop_single_tensor_return".to_owned(), Value::Null);
        rest.insert("name".to_owned(), name.into());
        Self {
            target: target.to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            metadata: Map::new(),
            rest,
        }
    }

    /// The same with one more positional argument.
    pub(super) fn arg(mut self, name: &str, arg: Value) -> Self {
        self.push(name, arg, 1);
        self
    }

    /// The same with one more keyword argument.
    pub(super) fn keyword(mut self, name: &str, arg: Value) -> Self {
        self.push(name, arg, 2);
        self
    }

    fn push(&mut self, name: &str, arg: Value, kind: u64) {
        let mut rest = Map::new();
        rest.insert("kind".to_owned(), kind.into());
        self.inputs.push(NamedArgument {
            name: name.to_owned(),
            arg,
            rest,
        });
    }

    /// The node's own name.
    pub(super) fn name(&self) -> Option<&str> {
        self.rest.get("name")?.as_str()
    }

    /// The operator without its namespace: `aten.conv2d.default`; none for others than ATen's.
    pub(super) fn aten(&self) -> Option<&str> {
        self.target.strip_prefix("torch.ops.aten.")
    }

    /// Names that the node takes, each with what it stands for.
    pub(super) fn taken(&self) -> Vec<(&str, Named)> {
        let mut names = Vec::new();
        for input in &self.inputs {
            for_each_name(&input.arg, &mut |name, kind| names.push((name, kind)));
        }
        names
    }

    /// Names that the node makes.
    pub(super) fn made(&self) -> Vec<(&str, Named)> {
        let mut names = Vec::new();
        for output in &self.outputs {
            for_each_name(output, &mut |name, kind| names.push((name, kind)));
        }
        names
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let input = self.inputs.iter().find(|input| input.name == name)?;
        (input.arg.get("as_none").is_none()).then_some(&input.arg)
    }

    /// True where the argument is given and not none.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The name of a tensor argument.
    pub(super) fn tensor(&self, name: &str) -> Option<&str> {
        tensor_name(self.get(name)?)
    }

    /// The names in a list of tensors.
    pub(super) fn tensors(&self, name: &str) -> Option<Vec<&str>> {
        let list = self.get(name)?.get("as_tensors")?.as_array()?;
        list.iter().map(|t| t.get("name")?.as_str()).collect()
    }

    /// An integer, or `default` where the argument is left out.
    pub(super) fn int_or(&self, name: &str, default: i64) -> Option<i64> {
        match self.get(name) {
            None => Some(default),
            Some(arg) => arg.get("as_int")?.as_i64(),
        }
    }

    /// An integer.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.get("as_int")?.as_i64()
    }

    /// Integers; empty where the argument is left out.
    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        let Some(arg) = self.get(name) else {
            return Some(Vec::new());
        };
        if let Some(one) = arg.get("as_int") {
            return Some(vec![one.as_i64()?]);
        }
        if let Some(list) = arg.get("as_ints") {
            return list.as_array()?.iter().map(Value::as_i64).collect();
        }
        let sizes = self.sizes(name)?.into_iter().map(|size| match size {
            Size::Int(n) => Some(n),
            Size::Name(_) => None,
        });
        sizes.collect()
    }

    /// Sizes, some of which may be symbolic.
    pub(super) fn sizes(&self, name: &str) -> Option<Vec<Size>> {
        let arg = self.get(name)?;
        if let Some(list) = arg.get("as_ints") {
            let list = list.as_array()?.iter();
            return list.map(|n| n.as_i64().map(Size::Int)).collect();
        }
        let list = arg.get("as_sym_ints")?.as_array()?;
        let size = |value: &Value| match value.get("as_int") {
            Some(n) => n.as_i64().map(Size::Int),
            None => Some(Size::Name(value.get("as_name")?.as_str()?.to_owned())),
        };
        list.iter().map(size).collect()
    }

    /// A number, or `default` where the argument is left out.
    pub(super) fn number_or(&self, name: &str, default: f64) -> Option<f64> {
        match self.get(name) {
            None => Some(default),
            Some(_) => self.number(name),
        }
    }

    /// A finite number.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        let arg = self.get(name)?;
        let number = arg.get("as_float").or_else(|| arg.get("as_int"))?;
        number.as_f64().filter(|n| n.is_finite())
    }

    /// True or false, or `default` where the argument is left out.
    pub(super) fn flag_or(&self, name: &str, default: bool) -> Option<bool> {
        match self.get(name) {
            None => Some(default),
            Some(arg) => arg.get("as_bool")?.as_bool(),
        }
    }

    /// The exporter's number of an element type.
    pub(super) fn scalar_type(&self, name: &str) -> Option<u64> {
        self.get(name)?.get("as_scalar_type")?.as_u64()
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.get("as_string")?.as_str()
    }
}

/// The name in an output of a graph, a tensor's or another's.
pub(super) fn output_name(arg: &Value) -> Option<(&str, Named)> {
    tensor_name(arg)
        .map(|name| (name, Named::Tensor))
        .or_else(|| symbol_name(arg).map(|name| (name, Named::Other)))
}

/// `{"as_tensor": {"name": …}}`.
pub(super) fn tensor_arg(name: &str) -> Value {
    json!({ "as_tensor": { "name": name } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_inside_graphs_are_left_alone() {
        let arg = json!({ "as_graph": { "name": "g", "graph": { "name": "x" } } });
        let mut seen = Vec::new();
        for_each_name(&arg, &mut |name, _| seen.push(name));
        assert!(seen.is_empty());
        let arg = json!({ "as_optional_tensors": [{ "as_tensor": { "name": "a" } }, { "as_none": true }] });
        for_each_name(&arg, &mut |name, _| seen.push(name));
        assert_eq!(seen, ["a"]);
    }
}
