//! What a graph refuses.

use crate::shape::Fact;

/// Why an op cannot have the inputs or weights that it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// The wrong number of inputs.
    #[error("expected {expected} inputs, found {got}")]
    InputCount {
        /// Inputs the op takes.
        expected: usize,
        /// Inputs it has.
        got: usize,
    },
    /// An input has the wrong number of dimensions.
    #[error("expected an input of {expected} dimensions, found {got}")]
    Rank {
        /// Dimensions the op takes.
        expected: usize,
        /// The input.
        got: Fact,
    },
    /// An input's channel (or feature) dimension does not fit the weights.
    #[error("the weights take {expected} channels, the input is {got}")]
    Channels {
        /// Channels that the weights take.
        expected: usize,
        /// The input.
        got: Fact,
    },
    /// A weight is not there.
    #[error("weight `{name}` is missing")]
    MissingWeight {
        /// The weight's name.
        name: String,
    },
    /// A weight has the wrong shape.
    #[error("weight `{name}`: expected {expected}, found shape {got:?}")]
    WeightShape {
        /// The weight's name.
        name: String,
        /// What was expected, in words.
        expected: &'static str,
        /// Its shape.
        got: Vec<usize>,
    },
    /// Channels or features that the number of groups does not divide.
    #[error("{channels} channels cannot be divided into {groups} groups")]
    Groups {
        /// Channels.
        channels: usize,
        /// Groups.
        groups: usize,
    },
    /// An attribute is impossible.
    #[error("attribute `{attribute}`: {reason}")]
    Attribute {
        /// The attribute's name.
        attribute: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The window does not fit into its input.
    #[error("a window of {window} does not fit into a padded input of {input}")]
    Window {
        /// Size of the (dilated) window.
        window: usize,
        /// Size of the padded input.
        input: usize,
    },
    /// Two inputs whose shapes do not go together.
    #[error("inputs {a} and {b} do not go together")]
    Incompatible {
        /// One input.
        a: Fact,
        /// The other.
        b: Fact,
    },
    /// An axis beyond the input's dimensions.
    #[error("axis {axis} is out of range for {input}")]
    Axis {
        /// The axis.
        axis: i64,
        /// The input.
        input: Fact,
    },
    /// A reshape that changes the number of elements.
    #[error("{from} cannot be reshaped to {to:?}")]
    Reshape {
        /// The input.
        from: Fact,
        /// The shape asked for.
        to: Vec<i64>,
    },
}

/// What is wrong with a graph, or with a change to it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// An op does not fit its inputs or weights.
    #[error("node `{node}` ({op}): {source}")]
    Op {
        /// The node.
        node: String,
        /// Its kind of op.
        op: &'static str,
        /// What does not fit.
        source: OpError,
    },
    /// Two nodes or two values of one name.
    #[error("the name `{name}` is used twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A node or value that does not exist.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// `node`, `value` or `weight`.
        what: &'static str,
        /// The name asked for.
        name: String,
    },
    /// Nodes that depend on each other in a circle.
    #[error("node `{node}` depends on its own output")]
    Cycle {
        /// A node of the circle.
        node: String,
    },
    /// The stored shape of a value is not the inferred one.
    #[error("node `{node}`: output {index} is {stored}, inferred {inferred}")]
    StaleFact {
        /// The node that makes the value.
        node: String,
        /// Which of its outputs.
        index: usize,
        /// The shape that the graph holds.
        stored: Fact,
        /// The shape that inference gives.
        inferred: Fact,
    },
    /// A weight replaced by one of another shape.
    #[error("weight `{name}`: expected shape {expected:?}, found {got:?}")]
    WeightReplaced {
        /// The weight's name.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
        /// The shape of what should replace it.
        got: Vec<usize>,
    },
    /// A pass left the graph in a bad state.
    #[error("after pass `{pass}`: {source}")]
    Pass {
        /// The pass.
        pass: String,
        /// What it broke.
        source: Box<GraphError>,
    },
    /// A stored graph that cannot be read.
    #[error("the stored graph cannot be read: {reason}")]
    Stored {
        /// The parser's complaint.
        reason: String,
    },
}
