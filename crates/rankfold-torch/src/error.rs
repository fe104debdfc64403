//! What running a graph on libtorch can refuse.

use rankfold_graph::{DType, Dim, Fact, GraphError, TensorError};

/// An op that the executor cannot run, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingOp {
    /// The node's name.
    pub node: String,
    /// The op's name in the file that it came from.
    pub target: String,
}

/// Why a graph cannot be run, measured or changed by what was measured.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// The graph has ops that are carried through without being understood.
    #[error("{} cannot run: {}", count(.ops.len()), list(.ops))]
    MissingOps {
        /// All of them.
        ops: Vec<MissingOp>,
    },
    /// libtorch refused a node's op.
    #[error("node `{node}` ({op}): {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// Its kind of op.
        op: &'static str,
        /// libtorch's reason, in one line.
        reason: String,
    },
    /// libtorch refused a step that belongs to no node.
    #[error("{step}: {reason}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// libtorch's reason, in one line.
        reason: String,
    },
    /// Data with other inputs than the model's.
    #[error("the model takes {}, the data have {}", named(.model), named(.data))]
    Inputs {
        /// The names of the model's.
        model: Vec<String>,
        /// The names of the data's; empty where they have none.
        data: Vec<String>,
    },
    /// The wrong number of inputs.
    #[error("the model takes {expected} inputs, found {got}")]
    InputCount {
        /// Inputs the model takes.
        expected: usize,
        /// Inputs given.
        got: usize,
    },
    /// An input of another shape than the model's.
    #[error("input `{name}`: the model takes {}, found {got:?}", sizes(expected))]
    InputShape {
        /// The input's name.
        name: String,
        /// What the model takes.
        expected: Fact,
        /// The shape given.
        got: Vec<i64>,
    },
    /// Floats where the model takes whole numbers.
    #[error("input `{name}`: the model takes {expected}, found floats")]
    InputType {
        /// The input's name.
        name: String,
        /// What the model takes.
        expected: DType,
    },
    /// A weight that a node names is not in the graph.
    #[error("node `{node}`: weight `{weight}` is missing")]
    MissingWeight {
        /// The node's name.
        node: String,
        /// The weight's name.
        weight: String,
    },
    /// A NaN or an infinity among the weights.
    #[error("weight `{weight}` is not finite at element {index}")]
    NonFinite {
        /// The weight's name.
        weight: String,
        /// The first such element.
        index: usize,
    },
    /// A tensor of an element type that the graph has no name for.
    #[error("the element type {kind} is not supported")]
    Kind {
        /// libtorch's name of the type.
        kind: String,
    },
    /// An element type that a model cannot be run in.
    #[error("expected a floating-point type to run in, found {dtype}")]
    NotFloat {
        /// The type asked for.
        dtype: DType,
    },
    /// A node that is not in the graph.
    #[error("there is no node `{node}`")]
    UnknownNode {
        /// The name asked for.
        node: String,
    },
    /// A node whose values do not exist because it was merged with its neighbour.
    #[error("node `{node}` is merged with its batch norm here; run without folding to see it")]
    Folded {
        /// The node's name.
        node: String,
    },
    /// A node of a kind that the work at hand is not for.
    #[error("node `{node}`: expected {expected}, found {op}")]
    WrongOp {
        /// The node's name.
        node: String,
        /// What was expected.
        expected: &'static str,
        /// What it is.
        op: &'static str,
    },
    /// Inputs that hold what is no number.
    #[error("the data's {} holds numbers that are not finite", input.as_ref().map_or("input".to_owned(), |name| format!("`{name}`")))]
    InputNonFinite {
        /// The input; none where it has no name.
        input: Option<String>,
    },
    /// An answer of one of two models that holds what is no number.
    #[error("output `{output}` of the {which} model holds numbers that are not finite")]
    AnswerNonFinite {
        /// The output.
        output: String,
        /// Which of the two models.
        which: &'static str,
    },
    /// Data without labels where they are needed.
    #[error("the data have no labels")]
    NoLabels,
    /// A label beyond the model's classes.
    #[error("label {label} is beyond the model's {classes} classes")]
    Label {
        /// The label.
        label: i64,
        /// Classes of the model's output.
        classes: i64,
    },
    /// Numbers to give of another shape than those given.
    #[error("expected outputs of the shape of their targets, {expected:?}, found {got:?}")]
    TargetShape {
        /// The targets'.
        expected: Vec<i64>,
        /// The outputs'.
        got: Vec<i64>,
    },
    /// An output that is no table of class scores.
    #[error("expected class scores [batch, classes], found an output of shape {got:?}")]
    NoScores {
        /// The output's shape.
        got: Vec<i64>,
    },
    /// Nothing to measure on.
    #[error("there is no input to {what}")]
    Empty {
        /// What was to be done.
        what: &'static str,
    },
    /// Two models that cannot be compared.
    #[error("the models' outputs differ in shape: {a:?} and {b:?}")]
    OutputsDiffer {
        /// The first model's.
        a: Vec<i64>,
        /// The second's.
        b: Vec<i64>,
    },
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] rankfold_data::DataError),
    /// The graph could not be changed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A layer that cannot take a form.
    #[error(transparent)]
    Compress(#[from] rankfold_compress::CompressError),
    /// A tensor could not be made.
    #[error("tensor `{name}`: {source}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// Why.
        source: TensorError,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, TorchError>;

impl TorchError {
    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::MissingOps { .. } => {
                Some("the model can still be inspected, compressed on its weights and written")
            }
            Self::NonFinite { .. } => Some("the file is damaged or training has diverged"),
            Self::AnswerNonFinite { .. } => Some(
                "inputs and weights are finite: they may be far larger than what the model was trained on",
            ),
            Self::NoLabels => Some("use data with labels, or `compare`, which needs none"),
            Self::InputType { .. } => Some("store whole numbers as i64 or i32"),
            Self::Inputs { .. } => Some(
                "a file of `--data tensors:FILE` holds one tensor an input, under the model's names",
            ),
            Self::Label { .. } => Some("model and data must have the same classes"),
            Self::TargetShape { .. } => Some(
                "targets are the tensor `targets` of a tensor file, or the inputs where there is none",
            ),
            _ => None,
        }
    }
}

/// How many inputs, and what they are called.
fn named(inputs: &[String]) -> String {
    let names: Vec<String> = inputs
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| format!("`{name}`"))
        .collect();
    let names = match names.is_empty() {
        true => String::new(),
        false => format!(" ({})", names.join(", ")),
    };
    match inputs.len() {
        1 => format!("1 input{names}"),
        count => format!("{count} inputs{names}"),
    }
}

fn count(ops: usize) -> String {
    match ops {
        1 => "an op".into(),
        n => format!("{n} ops"),
    }
}

fn list(ops: &[MissingOp]) -> String {
    let mut names: Vec<String> = Vec::new();
    for op in ops {
        let known = names
            .iter()
            .any(|name| name.starts_with(&format!("{} ", op.target)));
        if !known {
            let here: Vec<&str> = (ops.iter())
                .filter(|other| other.target == op.target)
                .map(|other| other.node.as_str())
                .collect();
            names.push(format!("{} (at {})", op.target, here.join(", ")));
        }
    }
    names.join("; ")
}

/// libtorch's message without the C++ stack trace that follows it.
pub(crate) fn reason(error: &tch::TchError) -> String {
    let text = match error {
        tch::TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    let before = |text: String, mark: &str| text.split(mark).next().unwrap_or("").to_owned();
    let message = before(text, "\nException raised from");
    // A missing kernel is followed by all that there are.
    let message = before(message, " This could be because");
    let lines: Vec<&str> = message
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    lines.join(" ")
}

/// Names the step in which libtorch refused something outside of any node.
pub(crate) trait At<T> {
    fn at(self, step: &'static str) -> Result<T>;
}

impl<T> At<T> for std::result::Result<T, tch::TchError> {
    fn at(self, step: &'static str) -> Result<T> {
        self.map_err(|error| TorchError::Step {
            step,
            reason: reason(&error),
        })
    }
}

/// Type and sizes of what a model takes, "any" where they are open.
fn sizes(fact: &Fact) -> String {
    let size = |dim: &Dim| {
        dim.fixed()
            .map_or("any".to_owned(), |size| size.to_string())
    };
    let sizes = fact.shape.iter().flatten().map(size).collect::<Vec<_>>();
    format!("{}[{}]", fact.dtype, sizes.join(", "))
}
