//! A graph as a PyTorch module: source text that builds the network and loads `model.safetensors`.

mod decoder;
mod expression;
mod step;

use std::collections::HashMap;
use std::fmt::Write;

use rankfold_graph::{Graph, ValueId};

use self::step::Step;
use crate::error::FormatError;

/// The Python source of a module that computes what the graph computes.
///
/// The module's parameters have the names of the graph's weights, so that the file written beside it
/// loads with `strict=True`; coded weights are decoded before.
pub fn python_module(graph: &Graph) -> Result<String, FormatError> {
    let names = Names::new(graph);
    let mut modules = String::new();
    let mut forward = String::new();
    for node in graph.nodes() {
        let step = Step {
            graph,
            node,
            names: &names,
        };
        if let Some((path, construction)) = step.module()? {
            let _ = writeln!(modules, "        nest(self, {path:?}, {construction})");
        }
        let outputs: Vec<&str> = node.outputs.iter().map(|&id| names.of(id)).collect();
        let _ = writeln!(
            forward,
            "        {} = {}",
            outputs.join(", "),
            step.expression()?
        );
    }
    let inputs: Vec<&str> = graph.inputs().iter().map(|&id| names.of(id)).collect();
    let outputs: Vec<&str> = graph.outputs().iter().map(|&id| names.of(id)).collect();
    let class = class_name(&graph.meta().name);
    let harmless = |c: &char| !c.is_control() && !matches!(c, '"' | '\\');
    let title: String = graph.meta().name.chars().filter(harmless).collect();
    let coded = graph
        .weights()
        .iter()
        .any(|(_, tensor)| tensor.code().is_some());
    let weights = if coded {
        decoder::CODED
    } else {
        decoder::PLAIN
    };
    Ok(format!(
        r#""""{title}, written by Rankfold: the network whose weights are in model.safetensors."""

{standard}from pathlib import Path

import torch
{imports}
from torch import nn
from torch.nn import functional as F


def nest(root, path, child):
    """Puts a module or a parameter where its dotted name says."""
    *folders, name = path.split(".")
    for folder in folders:
        if folder not in root._modules:
            root.add_module(folder, nn.Module())
        root = root._modules[folder]
    if isinstance(child, nn.Parameter):
        root.register_parameter(name, child)
    elif isinstance(child, torch.Tensor):
        root.register_buffer(name, child)
    else:
        root.add_module(name, child)

{decoder}
class {class}(nn.Module):
    def __init__(self):
        super().__init__()
{modules}
    def forward(self, {arguments}):
        m = self.get_submodule
{forward}        return {results}


def load(path=Path(__file__).with_name("model.safetensors")):
    """The network with its weights, ready for inference."""
    model = {class}()
    model.load_state_dict({reader}(path), strict=True)
    return model.eval()


if __name__ == "__main__":
    print(load())
"#,
        arguments = inputs.join(", "),
        results = outputs.join(", "),
        standard = weights.standard,
        imports = weights.imports,
        decoder = weights.decoder,
        reader = weights.reader,
    ))
}

/// `resnet20` as `Resnet20`.
fn class_name(name: &str) -> String {
    let mut class: String = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .map(|part| part[..1].to_ascii_uppercase() + &part[1..])
        .collect();
    if !class.starts_with(|c: char| c.is_ascii_alphabetic()) {
        class.insert_str(0, "Model");
    }
    class
}

/// Values as Python variables: their names where those are possible, made unique.
struct Names(Vec<String>);

impl Names {
    const TAKEN: [&'static str; 22] = [
        "self", "m", "F", "nn", "torch", "Path", "nest", "load", "and", "as", "class", "def",
        "del", "for", "from", "if", "import", "in", "is", "not", "or", "return",
    ];

    fn new(graph: &Graph) -> Self {
        let mut used: HashMap<String, usize> = HashMap::new();
        let name = |value: &rankfold_graph::Value| {
            let mut name: String = (value.name.chars())
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect();
            if name.starts_with(|c: char| c.is_ascii_digit()) || Self::TAKEN.contains(&&*name) {
                name.insert(0, '_');
            }
            let times = used.entry(name.clone()).or_default();
            *times += 1;
            match *times {
                1 => name,
                n => format!("{name}__{n}"),
            }
        };
        Self(graph.values().iter().map(name).collect())
    }

    fn of(&self, id: ValueId) -> &str {
        &self.0[id.index()]
    }
}

/// Arguments of `F.pad` where some padding differs before and after.
fn uneven(padding: &[[usize; 2]]) -> Option<String> {
    let even = padding.iter().all(|[before, after]| before == after);
    let sizes: Vec<usize> = padding.iter().rev().flatten().copied().collect();
    (!even).then(|| tuple(&sizes))
}

fn python_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

fn tuple(values: &[impl ToString]) -> String {
    match values {
        [one] => format!("({},)", one.to_string()),
        values => {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            format!("({})", values.join(", "))
        }
    }
}
