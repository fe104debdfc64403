//! The instructions of a pickle.

use std::collections::HashMap;

use super::globals::lookup;
use super::machine::{ENTRY_LIMIT, LIMIT, Machine, MachineFault, Node, NodeId, Value};

/// Why a pickle stops before its end.
pub(super) enum Stop {
    Fault(MachineFault),
    Forbidden(String),
}

impl From<MachineFault> for Stop {
    fn from(fault: MachineFault) -> Self {
        Self::Fault(fault)
    }
}

/// A pickle on its way through the machine.
pub(super) struct Run<'a> {
    pub(super) machine: &'a mut Machine,
    bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) stack: Vec<Value>,
    memo: HashMap<u64, Value>,
}

impl<'a> Run<'a> {
    /// At the start of `bytes`, with nothing on the stack.
    pub(super) fn new(machine: &'a mut Machine, bytes: &'a [u8]) -> Self {
        Self {
            machine,
            bytes,
            at: 0,
            stack: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Executes one instruction; the value of the pickle where it was the last.
    pub(super) fn step(&mut self) -> Result<Option<Value>, Stop> {
        match self.u8()? {
            0x80 => drop(self.u8()?),
            0x95 => drop(self.take(8)?),
            b'}' => self.push_pairs(Vec::new(), Value::Dict)?,
            b']' => self.push_items(Vec::new(), Value::List)?,
            b')' => self.push_items(Vec::new(), Value::Tuple)?,
            0x8f => self.push(Value::Other)?,
            b'(' => self.push(Value::Mark)?,
            b'N' => self.push(Value::Other)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => {
                let v = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(v.into()))?;
            }
            b'K' => {
                let v = self.u8()?;
                self.push(Value::Int(v.into()))?;
            }
            b'M' => {
                let v = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(v.into()))?;
            }
            0x8a => {
                let n = self.u8()?.into();
                self.long(n)?;
            }
            0x8b => {
                let n = u32::from_le_bytes(self.array()?);
                self.long(n as usize)?;
            }
            b'I' => match self.line()? {
                "00" => self.push(Value::Bool(false))?,
                "01" => self.push(Value::Bool(true))?,
                text => {
                    let v = text.trim().parse().map_err(|_| MachineFault::Literal)?;
                    self.push(Value::Int(v))?;
                }
            },
            b'L' => {
                let text = self.line()?.trim().trim_end_matches('L');
                let value = text.parse().map_or(Value::Other, Value::Int);
                self.push(value)?;
            }
            b'F' => {
                self.line()?;
                self.push(Value::Other)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)?;
            }
            b'X' | b'T' => {
                let n = u32::from_le_bytes(self.array()?);
                self.text(n.into())?;
            }
            0x8c | b'U' => {
                let n = self.u8()?;
                self.text(n.into())?;
            }
            0x8d => {
                let n = u64::from_le_bytes(self.array()?);
                self.text(n)?;
            }
            b'V' => {
                let text = self.line()?.into();
                self.push(Value::Str(text))?;
            }
            b'S' => {
                let text = self.line()?.trim_matches(['\'', '"']).into();
                self.push(Value::Str(text))?;
            }
            b'B' => {
                let n = u32::from_le_bytes(self.array()?);
                self.blob(n.into())?;
            }
            b'C' => {
                let n = self.u8()?;
                self.blob(n.into())?;
            }
            0x8e | 0x96 => {
                let n = u64::from_le_bytes(self.array()?);
                self.blob(n)?;
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_items(items, Value::Tuple)?;
            }
            n @ 0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(n - 0x84));
                let items = self.stack.split_off(from.ok_or(MachineFault::Underflow)?);
                self.push_items(items, Value::Tuple)?;
            }
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push_items(items, Value::List)?;
            }
            b'd' => {
                let pairs = into_pairs(self.pop_to_mark()?)?;
                self.push_pairs(pairs, Value::Dict)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let pairs = into_pairs(self.pop_to_mark()?)?;
                self.set(pairs)?;
            }
            0x90 => drop(self.pop_to_mark()?),
            0x91 => {
                self.pop_to_mark()?;
                self.push(Value::Other)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Str(name), Value::Str(module)) => self.global(&module, &name)?,
                _ => return Err(operands("STACK_GLOBAL")),
            },
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
                return Err(MachineFault::Opcode(b'i').into());
            }
            b'R' => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let value = self.reduce(&callable, &args)?;
                self.push(value)?;
            }
            0x81 => {
                let (args, class) = (self.pop()?, self.pop()?);
                let value = self.reduce(&class, &args)?;
                self.push(value)?;
            }
            0x92 => {
                let (_, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                let value = self.reduce(&class, &args)?;
                self.push(value)?;
            }
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                let value = self.persistent(&id)?;
                self.push(value)?;
            }
            b'p' => {
                let slot = self.line()?.parse().map_err(|_| MachineFault::Literal)?;
                self.memorise(slot)?;
            }
            b'q' => {
                let slot = self.u8()?.into();
                self.memorise(slot)?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?).into();
                self.memorise(slot)?;
            }
            0x94 => self.memorise(self.memo.len() as u64)?,
            b'g' => {
                let slot = self.line()?.parse().map_err(|_| MachineFault::Literal)?;
                self.recall(slot)?;
            }
            b'h' => {
                let slot = self.u8()?.into();
                self.recall(slot)?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?).into();
                self.recall(slot)?;
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.stack.last().ok_or(MachineFault::Underflow)?.clone();
                self.push(top)?;
            }
            b'.' => return self.pop().map(Some),
            other => return Err(MachineFault::Opcode(other).into()),
        }
        Ok(None)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Stop> {
        let part = self.bytes[self.at..]
            .get(..n)
            .ok_or(MachineFault::Truncated)?;
        self.at += n;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (head, _) = self.bytes[self.at..]
            .split_first_chunk::<N>()
            .ok_or(MachineFault::Truncated)?;
        self.at += N;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Stop> {
        self.array().map(|[b]| b)
    }

    fn line(&mut self) -> Result<&'a str, Stop> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(1 << 16).position(|&b| b == b'\n');
        let line = &rest[..end.ok_or(MachineFault::Truncated)?];
        self.at += line.len() + 1;
        Ok(std::str::from_utf8(line)
            .map_err(|_| MachineFault::Literal)?
            .trim_end_matches('\r'))
    }

    fn text(&mut self, n: u64) -> Result<(), Stop> {
        let n = usize::try_from(n).map_err(|_| MachineFault::Truncated)?;
        let raw = self.take(n)?;
        // Strings of Python 2 may be Latin-1.
        let text = match std::str::from_utf8(raw) {
            Ok(text) => text.into(),
            Err(_) => raw
                .iter()
                .map(|&b| char::from(b))
                .collect::<String>()
                .into(),
        };
        self.push(Value::Str(text))
    }

    fn blob(&mut self, n: u64) -> Result<(), Stop> {
        let n = usize::try_from(n).map_err(|_| MachineFault::Truncated)?;
        self.take(n)?;
        self.push(Value::Other)
    }

    fn long(&mut self, n: usize) -> Result<(), Stop> {
        let raw = self.take(n)?;
        let value = if raw.len() <= 8 {
            let negative = raw.last().is_some_and(|b| b & 0x80 != 0);
            let mut bytes = [if negative { 0xff } else { 0 }; 8];
            bytes[..raw.len()].copy_from_slice(raw);
            Value::Int(i64::from_le_bytes(bytes))
        } else {
            Value::Other
        };
        self.push(value)
    }

    fn push(&mut self, value: Value) -> Result<(), Stop> {
        if self.stack.len() >= LIMIT {
            return Err(MachineFault::TooLarge { limit: LIMIT }.into());
        }
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Value, Stop> {
        match self.stack.pop() {
            None | Some(Value::Mark) => Err(MachineFault::Underflow.into()),
            Some(value) => Ok(value),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Stop> {
        let mark = self.stack.iter().rposition(|v| matches!(v, Value::Mark));
        let items = self
            .stack
            .split_off(mark.ok_or(MachineFault::Underflow)? + 1);
        self.stack.pop();
        Ok(items)
    }

    pub(super) fn node(&mut self, node: Node) -> Result<NodeId, Stop> {
        if self.machine.nodes.len() >= LIMIT {
            return Err(MachineFault::TooLarge { limit: LIMIT }.into());
        }
        self.count_entries(match &node {
            Node::Items(items) => items.len(),
            Node::Pairs(pairs) => pairs.len(),
        })?;
        self.machine.nodes.push(node);
        Ok(self.machine.nodes.len() - 1)
    }

    fn push_items(&mut self, items: Vec<Value>, make: fn(NodeId) -> Value) -> Result<(), Stop> {
        let id = self.node(Node::Items(items))?;
        self.push(make(id))
    }

    fn push_pairs(
        &mut self,
        pairs: Vec<(Value, Value)>,
        make: fn(NodeId) -> Value,
    ) -> Result<(), Stop> {
        let id = self.node(Node::Pairs(pairs))?;
        self.push(make(id))
    }

    /// Counts entries that a container is to get.
    pub(super) fn count_entries(&mut self, entries: usize) -> Result<(), Stop> {
        self.machine.entries = self.machine.entries.saturating_add(entries);
        if self.machine.entries > ENTRY_LIMIT {
            return Err(MachineFault::TooLarge { limit: ENTRY_LIMIT }.into());
        }
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), Stop> {
        self.count_entries(items.len())?;
        match self.stack.last() {
            Some(Value::List(id)) => {
                if let Node::Items(list) = &mut self.machine.nodes[*id] {
                    list.extend(items);
                }
                Ok(())
            }
            Some(Value::Other) => Ok(()),
            _ => Err(operands("APPEND")),
        }
    }

    fn set(&mut self, pairs: Vec<(Value, Value)>) -> Result<(), Stop> {
        self.count_entries(pairs.len())?;
        match self.stack.last() {
            Some(Value::Dict(id)) => {
                if let Node::Pairs(dict) = &mut self.machine.nodes[*id] {
                    dict.extend(pairs);
                }
                Ok(())
            }
            Some(Value::Other) => Ok(()),
            _ => Err(operands("SETITEM")),
        }
    }

    fn memorise(&mut self, slot: u64) -> Result<(), Stop> {
        let top = self.stack.last().ok_or(MachineFault::Underflow)?.clone();
        if self.memo.len() >= LIMIT {
            return Err(MachineFault::TooLarge { limit: LIMIT }.into());
        }
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u64) -> Result<(), Stop> {
        let value = self
            .memo
            .get(&slot)
            .ok_or(MachineFault::Memo(slot))?
            .clone();
        self.push(value)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), Stop> {
        match lookup(module, name, self.machine.modules_allowed) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(Stop::Forbidden(format!("{module}.{name}"))),
        }
    }
}

pub(super) fn operands(instruction: &'static str) -> Stop {
    Stop::Fault(MachineFault::Operands { instruction })
}

fn into_pairs(items: Vec<Value>) -> Result<Vec<(Value, Value)>, Stop> {
    if !items.len().is_multiple_of(2) {
        return Err(operands("SETITEMS"));
    }
    let mut pairs = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    Ok(pairs)
}
