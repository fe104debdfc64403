//! ONNX models as graphs, and graphs as ONNX models.
//!
//! Reading keeps the file's own nodes beside the graph ([`OnnxOrigin`]). Writing gives every node
//! that is as it was its own text back, byte for byte, and makes new nodes for the rest; what was
//! never understood is carried through.

mod attributes;
mod convert;
mod emit;
mod fuse;
mod ints;
mod origin;
mod places;
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod proto;
mod read;
mod stream;
mod tensor;
mod weigh;
mod write;

use std::io;
use std::path::PathBuf;

use rankfold_graph::GraphError;

pub use self::origin::OnnxOrigin;
pub use self::read::read_onnx;
pub use self::write::{OnnxOptions, write_onnx};

/// The first opset in which `DequantizeLinear` has a scale for every channel.
const PER_CHANNEL: i64 = 13;
/// The oldest opset whose operators are understood.
pub(crate) const OLDEST: i64 = 11;
/// The newest.
pub(crate) const NEWEST: i64 = 21;

/// What makes an ONNX model unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxFault {
    /// The file is no ONNX model, or a damaged one.
    #[error("not a valid ONNX model: {0}")]
    Decode(#[source] prost::DecodeError),
    /// The model would take far more memory than any real one.
    #[error("decoding it would take {} MB, which no model of its kind does", needed / 1_000_000)]
    TooLarge {
        /// About the bytes.
        needed: u64,
    },
    /// The model has no graph.
    #[error("the model has no graph")]
    NoGraph,
    /// The model's operators are older or newer than those understood.
    #[error("the model uses opset {got}; understood are {OLDEST} to {NEWEST}")]
    Opset {
        /// The version found.
        got: i64,
    },
    /// An input that is no tensor of a known type.
    #[error("input `{input}` is no tensor of a known type")]
    Input {
        /// The input.
        input: String,
    },
    /// A tensor whose bytes do not match its shape.
    #[error("tensor `{tensor}` of shape {shape:?}: expected {expected} bytes, found {got}")]
    Size {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<i64>,
        /// Bytes that shape and type need.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
    /// A shape that no tensor can have.
    #[error("tensor `{tensor}` has the impossible shape {shape:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<i64>,
    },
    /// External data outside of the model's folder.
    #[error("the data of tensor `{tensor}` is at `{location}`, outside of the model's folder")]
    Outside {
        /// The tensor.
        tensor: String,
        /// The path given.
        location: String,
    },
    /// External data that cannot be opened.
    #[error("the data of tensor `{tensor}` should be in `{}`", file.display())]
    External {
        /// The tensor.
        tensor: String,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// External data past the end of its file.
    #[error(
        "the data of tensor `{tensor}` ends at byte {end} of `{location}`, which has {available}"
    )]
    PastEnd {
        /// The tensor.
        tensor: String,
        /// The file's name.
        location: String,
        /// Where the data should end.
        end: u64,
        /// Bytes that the file has.
        available: u64,
    },
    /// A node takes a value that nothing before it makes.
    #[error("node `{node}` takes `{value}`, which nothing before it makes")]
    Undefined {
        /// The node.
        node: String,
        /// The value.
        value: String,
    },
    /// Two values of one name.
    #[error("two values are named `{name}`")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// What the graph itself refuses.
    #[error("{0}")]
    Graph(#[source] Box<GraphError>),
    /// An op that ONNX has no way to say here.
    #[error("node `{node}` ({op}) has no ONNX form: {reason}")]
    NoForm {
        /// The node.
        node: String,
        /// Its kind of op.
        op: &'static str,
        /// Why.
        reason: &'static str,
    },
}

impl OnnxFault {
    fn graph(error: GraphError) -> Self {
        Self::Graph(Box::new(error))
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Opset { got } if *got > NEWEST => {
                Some("export the model again with a lower opset_version")
            }
            Self::Opset { .. } => {
                Some("convert the model with `onnx.version_converter.convert_version(model, 18)`")
            }
            Self::External { .. } => Some("keep the model and its data file in the same folder"),
            _ => None,
        }
    }
}
