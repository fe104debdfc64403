//! `torch.export` archives as graphs, and graphs as `torch.export` archives.
//!
//! Reading keeps the exported program beside the graph ([`Pt2Origin`]). Writing gives every node that
//! is as it was its own JSON back, and makes new nodes for the rest; what was never understood,
//! arithmetic of sizes among it, is carried through.

mod arguments;
mod carry;
mod convert;
mod emit;
mod import;
mod inplace;
mod names;
mod origin;
mod pack;
mod payload;
mod program;
mod read;
mod schema;
mod tensors;
mod write;

use std::path::Path;

use rankfold_graph::GraphError;

pub use self::origin::Pt2Origin;
pub use self::read::read_pt2;
pub use self::write::{Pt2Options, write_pt2};
use crate::error::FormatError;

/// What makes a `torch.export` archive unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Pt2Fault {
    /// An archive without a program, or with several.
    #[error(
        "expected one exported program in the archive, found {}",
        found_names(names)
    )]
    Programs {
        /// The programs found.
        names: Vec<String>,
    },
    /// A file of the archive that is no JSON of the expected form.
    #[error("`{entry}` is not the JSON of an exported program: {source}")]
    Json {
        /// The file in the archive.
        entry: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A schema that is not understood.
    #[error(
        "the program is of schema {major}.{minor}; understood is {}",
        schema::MAJOR
    )]
    Schema {
        /// Its major version.
        major: u64,
        /// Its minor version.
        minor: u64,
    },
    /// Weights in the byte order of other machines.
    #[error("the weights are in {order}-endian byte order; expected little-endian")]
    ByteOrder {
        /// The order found.
        order: String,
    },
    /// A pickle stands where raw bytes belong.
    #[error("`{entry}` is a pickle, which is a program and is not executed")]
    Pickle {
        /// The file in the archive, or the tensor.
        entry: String,
    },
    /// Machine code of AOTInductor.
    #[error("the archive holds compiled code (`{entry}`), not only an exported program")]
    Compiled {
        /// The file in the archive.
        entry: String,
    },
    /// An input of the graph that its signature describes otherwise.
    #[error("input {index} of the graph is `{input}`, but its signature has `{spec}`")]
    Signature {
        /// Its place.
        index: usize,
        /// The graph's name for it.
        input: String,
        /// The signature's name for it.
        spec: String,
    },
    /// A signature with more or fewer entries than the graph has.
    #[error("the graph has {graph} {what}, its signature {signature}")]
    SignatureLength {
        /// `inputs` or `outputs`.
        what: &'static str,
        /// How many the graph has.
        graph: usize,
        /// How many the signature has.
        signature: usize,
    },
    /// An entry of the signature that is not understood.
    #[error("{what} {index} of the signature is not understood")]
    Spec {
        /// `input` or `output`.
        what: &'static str,
        /// Its place.
        index: usize,
    },
    /// A weight that the program names and the archive has not.
    #[error("the archive has no tensor `{tensor}`, which input `{input}` stands for")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// The graph's name for it.
        input: String,
    },
    /// A value without a description.
    #[error("value `{value}` has no type and shape")]
    Undescribed {
        /// The value.
        value: String,
    },
    /// A tensor whose shape, strides and bytes do not go together.
    #[error(
        "tensor `{tensor}` of shape {shape:?}, strides {strides:?} and offset {offset} reaches \
         beyond the {available} bytes of `{entry}`"
    )]
    OutOfStorage {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its strides.
        strides: Vec<usize>,
        /// Its first element.
        offset: usize,
        /// The file in the archive.
        entry: String,
        /// Bytes that it has.
        available: usize,
    },
    /// A tensor that repeats a few elements into more than memory should hold.
    #[error("tensor `{tensor}` repeats the elements of `{entry}` to shape {shape:?}")]
    Repeats {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The file in the archive.
        entry: String,
    },
    /// A stored tensor without shape, or with sizes that no tensor can have.
    #[error("tensor `{tensor}` has no shape that a stored tensor can have")]
    Shape {
        /// The tensor.
        tensor: String,
    },
    /// A node takes a value that nothing before it makes.
    #[error("node `{node}` takes `{value}`, which nothing before it makes")]
    Undefined {
        /// The node.
        node: String,
        /// The value.
        value: String,
    },
    /// Two things of one name.
    #[error("the name `{name}` is used twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// What the graph itself refuses.
    #[error("{0}")]
    Graph(#[source] Box<GraphError>),
    /// A node that cannot be written here.
    #[error("node `{node}` ({op}) has no form in an exported program: {reason}")]
    NoForm {
        /// The node.
        node: String,
        /// Its kind of op.
        op: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A buffer that the program updates by a value that is no longer computed.
    #[error("output {index} of the program is `{value}`, which the graph no longer makes")]
    LostOutput {
        /// Its place among the program's outputs.
        index: usize,
        /// The value.
        value: String,
    },
    /// Ops that write to memory which others see in another shape.
    #[error("node `{node}` writes to memory that other values share: nothing around it may change")]
    Shared {
        /// The node.
        node: String,
    },
    /// The program could not be put into JSON.
    #[error("the program cannot be put into JSON: {source}")]
    Encode {
        /// What the writer said.
        source: serde_json::Error,
    },
}

impl Pt2Fault {
    fn graph(error: GraphError) -> Self {
        Self::Graph(Box::new(error))
    }

    /// The same, with the file that it is about.
    fn of_file(path: &Path, fault: Self) -> FormatError {
        FormatError::Pt2 {
            path: path.to_owned(),
            fault: Box::new(fault),
        }
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Schema { .. } => {
                "export the model again with a PyTorch whose schema is of major version 8, such as 2.11"
            }
            Self::Pickle { .. } => {
                "save the program again with `torch.export.save` of PyTorch 2.9 or later, without tensor subclasses or script objects"
            }
            Self::Compiled { .. } => "save the exported program by itself with `torch.export.save`",
            Self::Shared { .. } => {
                "`exported.run_decompositions()` turns such ops into ones that write to nothing"
            }
            Self::Programs { names } if names.len() > 1 => {
                "save each program in an archive of its own"
            }
            _ => return None,
        })
    }
}

fn found_names(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
