//! Which of a pickle's values are the weights.

use std::rc::Rc;

use super::PickleFault;
use super::machine::{Machine, NodeId, Value, View};

/// Where checkpoints keep their weights, the preferred first.
const HOLDERS: [&str; 14] = [
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "generator",
    "state_dict_ema",
    "ema_state_dict",
    "model_ema",
    "ema",
    "params_ema",
];
const DEPTH: usize = 64;
/// A container may be met this often under different names, as counted over all of them.
const REPEATS: usize = 8;
/// Bytes that a name may have.
const NAME_LIMIT: usize = 4096;

/// Names and descriptions of the weights in `root`, or of all tensors under `key`.
pub(crate) fn tensors(
    machine: &Machine,
    root: &Value,
    key: Option<&str>,
) -> Result<Vec<(String, Rc<View>)>, PickleFault> {
    let start = match key {
        Some(key) => descend(machine, root, key)?,
        None => unwrap_holders(machine, root),
    };
    let mut walk = Walk {
        machine,
        found: Vec::new(),
        path: Vec::new(),
        visits_left: REPEATS * (machine.size() + 1),
    };
    walk.visit(&start, String::new())?;
    if walk.found.is_empty() {
        return Err(PickleFault::NoTensors);
    }
    Ok(walk.found)
}

/// True where an object's attributes are tensors, every one.
pub(crate) fn only_tensors(machine: &Machine, object: NodeId) -> bool {
    let attributes = machine.pairs(object);
    !attributes.is_empty()
        && attributes
            .iter()
            .all(|(_, v)| matches!(v, Value::Tensor(_)))
}

fn name(value: &Value) -> Option<String> {
    match value {
        Value::Str(s) => Some(s.to_string()),
        Value::Int(i) => Some(i.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

fn descend(machine: &Machine, root: &Value, key: &str) -> Result<Value, PickleFault> {
    let mut value = root.clone();
    for part in key.split('.') {
        let pairs = match value {
            Value::Dict(id) | Value::Object(id) => machine.pairs(id),
            _ => &[],
        };
        let next = pairs
            .iter()
            .rev()
            .find(|(k, _)| name(k).as_deref() == Some(part));
        let Some((_, next)) = next else {
            return Err(PickleFault::NoSuchKey {
                key: key.to_owned(),
                found: pairs.iter().filter_map(|(k, _)| name(k)).collect(),
            });
        };
        value = next.clone();
    }
    Ok(value)
}

/// Goes down from dictionaries without tensors of their own to the one that holds the weights.
fn unwrap_holders(machine: &Machine, root: &Value) -> Value {
    let mut value = root.clone();
    for _ in 0..DEPTH {
        let Value::Dict(id) = value else { break };
        let pairs = machine.pairs(id);
        if pairs.iter().any(|(_, v)| matches!(v, Value::Tensor(_))) {
            break;
        }
        let held = HOLDERS.iter().find_map(|holder| {
            pairs.iter().rev().find(|(k, v)| {
                name(k).as_deref() == Some(holder)
                    && matches!(v, Value::Dict(d) if !machine.pairs(*d).is_empty())
            })
        });
        match held {
            Some((_, inner)) => value = inner.clone(),
            None => break,
        }
    }
    value
}

struct Walk<'a> {
    machine: &'a Machine,
    found: Vec<(String, Rc<View>)>,
    path: Vec<NodeId>,
    visits_left: usize,
}

impl Walk<'_> {
    fn visit(&mut self, value: &Value, name_here: String) -> Result<(), PickleFault> {
        let too_deep = |name: &str| PickleFault::TooDeep {
            name: name.chars().take(100).collect(),
        };
        let left = self.visits_left.checked_sub(1);
        self.visits_left = left.ok_or_else(|| too_deep(&name_here))?;
        if name_here.len() > NAME_LIMIT {
            return Err(too_deep(&name_here));
        }
        let machine = self.machine;
        let join = |part: &str| {
            if name_here.is_empty() {
                part.to_owned()
            } else {
                format!("{name_here}.{part}")
            }
        };
        let id = match value {
            Value::Tensor(view) => {
                self.found.push((name_here, view.clone()));
                return Ok(());
            }
            Value::Dict(id) | Value::Object(id) | Value::List(id) | Value::Tuple(id) => *id,
            _ => return Ok(()),
        };
        if self.path.contains(&id) {
            return Err(PickleFault::Cyclic { name: name_here });
        }
        if self.path.len() >= DEPTH {
            return Err(too_deep(&name_here));
        }
        self.path.push(id);
        for (key, child) in last_of_each(machine.pairs(id)) {
            self.visit(child, join(&key))?;
        }
        for (index, child) in machine.items(id).iter().enumerate() {
            self.visit(child, join(&index.to_string()))?;
        }
        self.path.pop();
        Ok(())
    }
}

/// Entries in order; where a key was set more than once, its last value.
fn last_of_each(pairs: &[(Value, Value)]) -> indexmap::IndexMap<String, &Value> {
    pairs
        .iter()
        .filter_map(|(key, value)| name(key).map(|k| (k, value)))
        .collect()
}
