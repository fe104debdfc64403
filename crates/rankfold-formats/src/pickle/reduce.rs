//! What the functions that a pickle calls make of their arguments.

use std::rc::Rc;

use super::globals::{Element, Global};
use super::machine::{Declared, ElementKey, MachineFault, Node, NodeId, Value, View};
use super::run::{Run, Stop, operands};

/// Dimensions that a tensor may have; PyTorch allows no more.
const RANK_LIMIT: usize = 64;

impl Run<'_> {
    /// Sets the state of the object on the stack: attributes for a module, nothing for all else.
    pub(super) fn build(&mut self) -> Result<(), Stop> {
        let state = self.pop()?;
        if let (Some(Value::Object(id)), Value::Dict(state)) = (self.stack.last(), &state) {
            let (id, state) = (*id, *state);
            let attributes = self.copy_pairs(state)?;
            self.machine.nodes[id] = Node::Pairs(attributes);
        }
        Ok(())
    }

    pub(super) fn reduce(&mut self, callable: &Value, args: &Value) -> Result<Value, Stop> {
        let Value::Tuple(args_id) = *args else {
            return Err(operands("REDUCE"));
        };
        let Value::Global(global) = *callable else {
            return match callable {
                Value::Other => Ok(Value::Other),
                _ => Err(operands("REDUCE")),
            };
        };
        match global {
            Global::Dict => {
                let pairs = match self.machine.items(args_id).last() {
                    Some(&Value::List(list)) => self.listed_pairs(list)?,
                    Some(&Value::Dict(other)) => self.copy_pairs(other)?,
                    _ => Vec::new(),
                };
                Ok(Value::Dict(self.node(Node::Pairs(pairs))?))
            }
            Global::Module => Ok(Value::Object(self.node(Node::Pairs(Vec::new()))?)),
            Global::First => {
                let first = self.machine.items(args_id).first();
                Ok(first.ok_or(MachineFault::Underflow)?.clone())
            }
            Global::RebuildTensor => self.view(args_id, None),
            Global::RebuildTyped => {
                let dtype = match self.machine.items(args_id).get(6) {
                    Some(Value::Global(Global::Element(element))) => *element,
                    _ => return Err(operands("_rebuild_tensor_v3")),
                };
                self.view(args_id, Some(dtype))
            }
            Global::RebuildFromType => match self.machine.items(args_id) {
                // The function is one of the above, so this ends after one more step.
                [Value::Global(inner), _, Value::Tuple(args), ..]
                    if *inner != Global::RebuildFromType =>
                {
                    let (inner, args) = (Value::Global(*inner), Value::Tuple(*args));
                    self.reduce(&inner, &args)
                }
                _ => Err(operands("_rebuild_from_type_v2")),
            },
            Global::Inert | Global::Element(_) => Ok(Value::Other),
        }
    }

    fn copy_pairs(&mut self, id: NodeId) -> Result<Vec<(Value, Value)>, Stop> {
        self.count_entries(self.machine.pairs(id).len())?;
        Ok(self.machine.pairs(id).to_vec())
    }

    /// The entries of a list of pairs, which is how Python 2 builds an `OrderedDict`.
    fn listed_pairs(&mut self, list: NodeId) -> Result<Vec<(Value, Value)>, Stop> {
        self.count_entries(self.machine.items(list).len())?;
        let pair = |value: &Value| match value {
            Value::Tuple(id) | Value::List(id) => match self.machine.items(*id) {
                [key, value] => Ok((key.clone(), value.clone())),
                _ => Err(operands("OrderedDict")),
            },
            _ => Err(operands("OrderedDict")),
        };
        self.machine.items(list).iter().map(pair).collect()
    }

    fn view(&self, args: NodeId, dtype: Option<Element>) -> Result<Value, Stop> {
        let bad = || operands("_rebuild_tensor");
        let [storage, Value::Int(offset), shape, strides, ..] = self.machine.items(args) else {
            return Err(bad());
        };
        let Value::Storage { index, base } = *storage else {
            return Err(bad());
        };
        let element = match dtype.unwrap_or(self.machine.storages[index].element) {
            Element::Known(dtype) => ElementKey::Known(dtype),
            Element::Unknown(name) => ElementKey::Unknown(name),
            Element::Untyped => ElementKey::Unknown("untyped"),
        };
        let offset = usize::try_from(*offset)
            .ok()
            .and_then(|o| o.checked_add(base));
        let view = View {
            storage: index,
            element,
            offset: offset.ok_or_else(bad)?,
            shape: self.sizes(shape).ok_or_else(bad)?,
            strides: self.sizes(strides).ok_or_else(bad)?,
        };
        if view.shape.len() != view.strides.len() {
            return Err(bad());
        }
        Ok(Value::Tensor(Rc::new(view)))
    }

    fn sizes(&self, value: &Value) -> Option<Vec<usize>> {
        let (Value::Tuple(id) | Value::List(id)) = value else {
            return None;
        };
        let size = |v: &Value| match v {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        let items = self.machine.items(*id);
        if items.len() > RANK_LIMIT {
            return None;
        }
        items.iter().map(size).collect()
    }

    /// `("storage", class, key, location, length[, view])`.
    pub(super) fn persistent(&mut self, id: &Value) -> Result<Value, Stop> {
        let bad = || operands("BINPERSID");
        let Value::Tuple(id) = *id else {
            return Err(bad());
        };
        let [Value::Str(kind), class, key, _, Value::Int(len), view @ ..] = self.machine.items(id)
        else {
            return Err(bad());
        };
        let Value::Global(Global::Element(element)) = *class else {
            return Err(bad());
        };
        let key: Rc<str> = match key {
            Value::Str(key) => key.clone(),
            Value::Int(key) => key.to_string().into(),
            _ => return Err(bad()),
        };
        if &**kind != "storage" {
            return Err(bad());
        }
        let base = match view.first() {
            Some(Value::Tuple(view)) => match self.machine.items(*view) {
                [_, Value::Int(offset), ..] => usize::try_from(*offset).map_err(|_| bad())?,
                _ => return Err(bad()),
            },
            _ => 0,
        };
        let len = usize::try_from(*len).map_err(|_| bad())?;
        let declared = Declared { key, element, len };
        if let Some(&index) = self.machine.by_key.get(&declared.key) {
            return if self.machine.storages[index] == declared {
                Ok(Value::Storage { index, base })
            } else {
                Err(bad())
            };
        }
        let index = self.machine.storages.len();
        self.machine.by_key.insert(declared.key.clone(), index);
        self.machine.storages.push(declared);
        Ok(Value::Storage { index, base })
    }
}
