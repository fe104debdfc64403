//! The order of work for a graph: which values a step takes, makes and frees.

use std::collections::HashSet;

use rankfold_graph::ops::{Activation, Arithmetic, Binary};
use rankfold_graph::{Fact, Graph, Op, Value, ValueId};

use crate::error::{MissingOp, Result, TorchError};
use crate::executor::Scores;
use crate::fuse::{fuse, fuse_chains};
use crate::ops::chain::Chain;
use crate::ops::packed::Epilogue;
use crate::ops::{self, Memory};

/// A node as it is run.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    /// The nodes that it does, itself first.
    pub(crate) nodes: Vec<String>,
    pub(crate) op: Op,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    /// Values that no later step takes.
    pub(crate) free: Vec<usize>,
    /// The input that the result may be written over.
    pub(crate) reuse: Option<usize>,
    /// The same is true while gradients are recorded.
    pub(crate) reuse_in_training: bool,
    /// What the step does besides its op.
    pub(crate) merged: Option<Merged>,
}

/// Nodes that one step does.
#[derive(Debug)]
pub(crate) enum Merged {
    /// A convolution with its kernel packed, and this after it.
    Conv(Epilogue),
    /// Three convolutions; the step's op is the first.
    Chain(Box<Chain>),
}

impl Merged {
    /// What comes last.
    pub(crate) fn epilogue(&self) -> Epilogue {
        match self {
            Self::Conv(epilogue) => *epilogue,
            Self::Chain(chain) => chain.epilogue,
        }
    }
}

/// When results may be written over inputs that nobody needs afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Never,
    Inference,
    /// Where no gradient needs what is overwritten.
    Training,
}

impl Step {
    pub(crate) fn new(name: String, op: Op, inputs: Vec<usize>, outputs: Vec<usize>) -> Self {
        Self {
            nodes: vec![name.clone()],
            name,
            op,
            inputs,
            outputs,
            free: Vec::new(),
            reuse: None,
            reuse_in_training: false,
            merged: None,
        }
    }

    /// The inputs whose memory could take the result.
    fn reuse_candidates(&self) -> &'static [usize] {
        let adds = |merged: &Merged| merged.epilogue().add;
        match &self.op {
            Op::Conv(_) if self.merged.as_ref().is_some_and(adds) => &[1],
            Op::Activation(_) | Op::BinaryScalar(_) => &[0],
            Op::Binary(_) => &[0, 1],
            _ => &[],
        }
    }

    pub(crate) fn reusable(&self, when: Reuse) -> Option<usize> {
        match when {
            Reuse::Never => None,
            Reuse::Inference => self.reuse,
            Reuse::Training => self.reuse.filter(|_| self.reuse_in_training),
        }
    }
}

/// A model input.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) fact: Fact,
    pub(crate) value: usize,
}

/// All steps of a graph, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<usize>,
    /// Names and facts of all values.
    pub(crate) values: Vec<Value>,
}

/// The nodes of a graph that cannot be run, with the names that their ops had.
pub fn missing_ops(graph: &Graph) -> Vec<MissingOp> {
    let missing = graph.nodes().iter().filter_map(|node| match &node.op {
        Op::Opaque(op) => Some(MissingOp {
            node: node.name.clone(),
            target: op.target.clone(),
        }),
        _ => None,
    });
    missing.collect()
}

impl Plan {
    /// What the numbers of the first output are, from the op that makes it.
    pub(crate) fn scores(&self) -> Scores {
        let output = self.outputs.first();
        let maker = self
            .steps
            .iter()
            .find(|step| step.outputs.first() == output);
        match maker.map(|step| &step.op) {
            Some(Op::Softmax(softmax)) if softmax.log => Scores::LogProbabilities,
            Some(Op::Softmax(_)) => Scores::Probabilities,
            _ => Scores::Logits,
        }
    }

    /// The steps of a graph, one a node; an error that names the ops that cannot be run.
    pub(crate) fn new(graph: &Graph) -> Result<Self> {
        Self::with(graph, |steps, _| steps)
    }

    /// The steps of a graph with convolutions packed and merged with what follows them, `chains` of
    /// three too, and the names of all nodes that were merged.
    pub(crate) fn fused(graph: &Graph, chains: bool) -> Result<(Self, HashSet<String>)> {
        let kernel = |step: &Step| {
            let weights = step.op.weights();
            let kernel = weights
                .first()
                .and_then(|(_, name)| graph.weights().get(name));
            kernel.map_or_else(Vec::new, |kernel| kernel.shape().to_vec())
        };
        let mut names = HashSet::new();
        let plan = Self::with(graph, |steps, outputs| {
            let mut fused = fuse(steps, outputs, graph.values(), kernel);
            if chains {
                fused = fuse_chains(fused, outputs, kernel);
            }
            names = fused.names;
            fused.steps
        })?;
        Ok((plan, names))
    }

    fn with(graph: &Graph, change: impl FnOnce(Vec<Step>, &[usize]) -> Vec<Step>) -> Result<Self> {
        let ops = missing_ops(graph);
        if !ops.is_empty() {
            return Err(TorchError::MissingOps { ops });
        }
        let index = |ids: &[ValueId]| ids.iter().map(|id| id.index()).collect::<Vec<_>>();
        let outputs = index(graph.outputs());
        let steps = graph.nodes().iter().map(|node| {
            Step::new(
                node.name.clone(),
                node.op.clone(),
                index(&node.inputs),
                index(&node.outputs),
            )
        });
        let mut steps = change(steps.collect(), &outputs);
        schedule(&mut steps, &outputs, graph.values());
        let inputs = graph.inputs().iter().map(|&id| {
            let value = graph.value(id);
            Input {
                name: value.name.clone(),
                fact: value.fact.clone(),
                value: id.index(),
            }
        });
        Ok(Self {
            steps,
            inputs: inputs.collect(),
            outputs,
            values: graph.values().to_vec(),
        })
    }

    /// The place of the node of that name.
    pub(crate) fn step(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }
}

/// Finds where values are freed and where results may be written over inputs.
fn schedule(steps: &mut [Step], outputs: &[usize], values: &[Value]) {
    let mut last = vec![None; values.len()];
    let mut takers = vec![0usize; values.len()];
    let mut maker = vec![None; values.len()];
    for (place, step) in steps.iter().enumerate() {
        for &value in &step.inputs {
            last[value] = Some(place);
            takers[value] += 1;
        }
        for &value in &step.outputs {
            maker[value] = Some(place);
        }
    }
    let own = own_memory(steps, values.len());
    for place in 0..steps.len() {
        let step = &steps[place];
        let mut free: Vec<usize> = (step.inputs.iter().chain(&step.outputs).copied())
            .filter(|&value| last[value].is_none_or(|last| last == place))
            .filter(|value| !outputs.contains(value))
            .collect();
        free.sort_unstable();
        free.dedup();
        let reuse = step.reuse_candidates().iter().copied().find(|&i| {
            let value = step.inputs[i];
            own[value]
                && free.contains(&value)
                && step.inputs.iter().filter(|&&other| other == value).count() == 1
                && same_sizes(&values[value].fact, &values[step.outputs[0]].fact)
        });
        let in_training = reuse.is_some_and(|i| {
            let value = step.inputs[i];
            let maker = maker[value].map(|maker: usize| &steps[maker].op);
            takers[value] == 1 && maker.is_some_and(|maker| spared_by_gradients(maker, &step.op))
        });
        let step = &mut steps[place];
        step.free = free;
        step.reuse = reuse;
        step.reuse_in_training = in_training;
    }
}

/// True where neither the gradient of what makes a value nor that of what takes it needs the value.
fn spared_by_gradients(maker: &Op, taker: &Op) -> bool {
    let add = Op::Binary(Binary {
        arithmetic: Arithmetic::Add,
    });
    let spared_by_maker = match maker {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_) | Op::BatchNorm(_) => true,
        op => *op == add,
    };
    spared_by_maker && (*taker == add || *taker == Op::Activation(Activation::Relu))
}

/// Whether each value has memory that no other value can see.
fn own_memory(steps: &[Step], values: usize) -> Vec<bool> {
    let mut own = vec![false; values];
    for step in steps {
        for &value in &step.outputs {
            own[value] = ops::memory(&step.op) == Memory::Fresh;
        }
        if ops::memory(&step.op) == Memory::View
            && let Some(&viewed) = step.inputs.first()
        {
            own[viewed] = false;
        }
    }
    own
}

/// True where two values are known to have the same type and sizes.
pub(crate) fn same_sizes(a: &Fact, b: &Fact) -> bool {
    a == b
        && a.dtype.is_float()
        && a.shape
            .as_ref()
            .is_some_and(|s| !s.contains(&rankfold_graph::Dim::UNKNOWN))
}
