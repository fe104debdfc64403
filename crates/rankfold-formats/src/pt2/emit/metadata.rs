//! What a program says of its nodes besides their meaning: the modules that they belong to.

use rankfold_graph::{Node, Op};
use serde_json::{Map, Value};

use crate::pt2::write::Writer;

const STACK: &str = "nn_module_stack";
/// The stack of a node of the outermost module.
const ROOT: &str = "L__self__,,torch.nn.modules.module.Module";

impl Writer<'_> {
    /// The metadata of a new node: those of the node that it replaces, one module deeper.
    pub(super) fn metadata(&self, node: &Node) -> Map<String, Value> {
        let mut path = node.name.as_str();
        let ancestor = loop {
            if let Some(found) = self.metadata_of(path) {
                break Some((path, found));
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => break None,
            }
        };
        let beside = || {
            let outputs = node.outputs.iter().map(|id| self.emitted[id].as_str());
            outputs.into_iter().find_map(|name| self.maker_of(name))
        };
        let (mut metadata, parent) = match (ancestor, beside()) {
            (Some((path, metadata)), _) => (metadata.clone(), Some(path)),
            (None, Some(metadata)) => (metadata.clone(), None),
            (None, None) => (Map::new(), None),
        };
        metadata.remove("from_node");
        let stack = metadata.get(STACK).and_then(Value::as_str);
        let stack = match (stack, parent) {
            (None, _) => self.root_stack(),
            (Some(stack), Some(parent)) if parent.len() < node.name.len() => {
                deeper(stack, parent, node)
            }
            (Some(stack), _) => stack.to_owned(),
        };
        metadata.insert(STACK.to_owned(), stack.into());
        metadata
    }

    /// What the file says of the node that became the graph's node `name`.
    fn metadata_of(&self, name: &str) -> Option<&Map<String, Value>> {
        let place = self.place_of(name)?;
        Some(&self.file_nodes()[place].metadata)
    }

    fn maker_of(&self, value: &str) -> Option<&Map<String, Value>> {
        let place = self.maker(value)?;
        Some(&self.file_nodes()[place].metadata)
    }

    /// The stack of the outermost module, as the file names it.
    fn root_stack(&self) -> String {
        let stacks = self
            .file_nodes()
            .iter()
            .filter_map(|n| n.metadata.get(STACK)?.as_str());
        let roots = stacks.filter_map(|stack| stack.split(';').next());
        let root = roots.into_iter().find(|root| root.contains(",,"));
        root.unwrap_or(ROOT).to_owned()
    }
}

/// The stack of a layer inside of module `parent`, where the stack ends there.
fn deeper(stack: &str, parent: &str, node: &Node) -> String {
    let kind = match &node.op {
        Op::Conv(conv) if conv.stride.len() == 1 => "torch.nn.modules.conv.Conv1d",
        Op::Conv(_) => "torch.nn.modules.conv.Conv2d",
        Op::Linear(_) => "torch.nn.modules.linear.Linear",
        _ => return stack.to_owned(),
    };
    let last = stack.rsplit(';').next().unwrap_or(stack);
    let mut fields = last.split(',');
    match (fields.next(), fields.next()) {
        (Some(key), Some(path)) if path == parent => {
            let child = &node.name[parent.len()..];
            format!("{stack};{key}{child},{path}{child},{kind}")
        }
        _ => stack.to_owned(),
    }
}
