//! A pickle machine that builds containers and descriptions of tensors, and nothing else.
//!
//! Containers live in an arena, so that a pickle that ties knots can neither leak nor overflow the
//! stack when it is dropped.

use std::collections::HashMap;
use std::rc::Rc;

use super::PickleFault;
use super::globals::{Element, Global};
use super::run::{Run, Stop};

/// There may be this many containers, and as many values on the stack and in the memo: far more than
/// any checkpoint has, and little enough to fit in memory.
pub(super) const LIMIT: usize = 2_000_000;
/// All containers together may have this many entries.
pub(super) const ENTRY_LIMIT: usize = 4 * LIMIT;

/// In what a pickle contradicts the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineFault {
    /// The pickle ends before its stop.
    #[error("it ends too early")]
    Truncated,
    /// An instruction that no checkpoint has.
    #[error("unknown instruction {0:#04x}")]
    Opcode(u8),
    /// An instruction finds less on the stack than it needs.
    #[error("an instruction lacks its operands")]
    Underflow,
    /// An instruction finds operands of another kind than it needs.
    #[error("{instruction} does not apply to what it is given")]
    Operands {
        /// The instruction or function.
        instruction: &'static str,
    },
    /// A memo entry that was never written.
    #[error("nothing was memorised as {0}")]
    Memo(u64),
    /// A number or a text that is none.
    #[error("malformed number or text")]
    Literal,
    /// More containers or entries than any checkpoint has.
    #[error("more than {limit} containers, values or entries")]
    TooLarge {
        /// How many are allowed.
        limit: usize,
    },
    /// What was to be a checkpoint is some other pickle.
    #[error("a pickle, but no PyTorch checkpoint")]
    NotTorch,
}

/// A container in the arena.
pub(crate) type NodeId = usize;

/// What a pickle is made of.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(i64),
    Bool(bool),
    Str(Rc<str>),
    Tuple(NodeId),
    List(NodeId),
    Dict(NodeId),
    Object(NodeId),
    Global(Global),
    Storage {
        index: usize,
        base: usize,
    },
    Tensor(Rc<View>),
    /// `None`, floats, sets and all else that tensors do not depend on.
    Other,
    Mark,
}

/// A storage as the pickle declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) key: Rc<str>,
    pub(crate) element: Element,
    /// Elements; bytes where the storage is untyped.
    pub(crate) len: usize,
}

/// A tensor as the pickle describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) storage: usize,
    pub(crate) element: ElementKey,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// An element type that can be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ElementKey {
    Known(rankfold_graph::DType),
    Unknown(&'static str),
}

/// What a container holds.
#[derive(Debug)]
pub(super) enum Node {
    Items(Vec<Value>),
    Pairs(Vec<(Value, Value)>),
}

/// The machine: arena, memo, and the storages that tensors refer to.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(super) nodes: Vec<Node>,
    pub(super) storages: Vec<Declared>,
    pub(super) by_key: HashMap<Rc<str>, usize>,
    pub(super) modules_allowed: bool,
    /// Entries of all containers.
    pub(super) entries: usize,
}

impl Machine {
    /// A machine that has seen nothing; `modules_allowed` for `.ot` archives.
    pub(crate) fn new(modules_allowed: bool) -> Self {
        Self {
            nodes: Vec::new(),
            storages: Vec::new(),
            by_key: HashMap::new(),
            modules_allowed,
            entries: 0,
        }
    }

    /// The storages that have been declared.
    pub(crate) fn storages(&self) -> &[Declared] {
        &self.storages
    }

    /// How many containers and entries there are.
    pub(crate) fn size(&self) -> usize {
        self.nodes.len() + self.entries
    }

    /// The items of a list or tuple.
    pub(crate) fn items(&self, id: NodeId) -> &[Value] {
        match &self.nodes[id] {
            Node::Items(items) => items,
            Node::Pairs(_) => &[],
        }
    }

    /// The entries of a dictionary or object.
    pub(crate) fn pairs(&self, id: NodeId) -> &[(Value, Value)] {
        match &self.nodes[id] {
            Node::Pairs(pairs) => pairs,
            Node::Items(_) => &[],
        }
    }

    /// What the pickle at the start of `bytes` makes, and how many bytes it takes.
    pub(crate) fn run(&mut self, bytes: &[u8]) -> Result<(Value, usize), PickleFault> {
        let mut run = Run::new(self, bytes);
        loop {
            let at = run.at;
            let step = run.step().map_err(|stop| match stop {
                Stop::Fault(fault) => PickleFault::Invalid { at, fault },
                Stop::Forbidden(name) => PickleFault::Forbidden { name },
            })?;
            if let Some(value) = step {
                let used = run.at;
                return Ok((value, used));
            }
        }
    }
}
