//! What reading and writing model files can refuse.

use std::io;
use std::path::PathBuf;

use rankfold_graph::DType;

use crate::archive::ArchiveFault;
use crate::coded::CodedFault;
use crate::kind::FileKind;
use crate::onnx::OnnxFault;
use crate::pickle::PickleFault;
use crate::pt2::Pt2Fault;
use crate::weights::{DuplicateTensor, SafetensorsFault};

/// A file that could not be read or written, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system refused.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder stands where a file was expected.
    #[error("{}: expected a file, found a folder", path.display())]
    Directory {
        /// The folder.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("{}: expected a model file, found an empty file", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A git-LFS pointer stands where the file should be.
    #[error("{}: expected a model file, found a git-LFS pointer to one", path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A web page was saved under the model's name.
    #[error("{}: expected a model file, found a web page", path.display())]
    WebPage {
        /// The file.
        path: PathBuf,
    },
    /// No known kind of model file.
    #[error("{}: not a known kind of model file (it begins with {})", path.display(), legible(start))]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        start: Vec<u8>,
    },
    /// The file's description of its own network cannot be read.
    #[error("{}: its description of the network cannot be read: {reason}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// The parser's complaint.
        reason: String,
    },
    /// The file's description is of a version that is not known.
    #[error(
        "{}: expected a description of version {expected}, found {}",
        path.display(),
        got.map_or("none".to_owned(), |got| format!("version {got}"))
    )]
    DescriptionVersion {
        /// The file.
        path: PathBuf,
        /// The version that is known.
        expected: u32,
        /// The version found.
        got: Option<u64>,
    },
    /// A node that cannot be written as Python.
    #[error("node `{node}` cannot be written as a PyTorch module: {what}")]
    PythonOp {
        /// The node.
        node: String,
        /// What it is or has.
        what: String,
    },
    /// A weight whose name no PyTorch module could give it.
    #[error(
        "node `{node}` cannot be written as a PyTorch module: its weight `{weight}` is not its own \
         under a name ending in `.{suffix}`"
    )]
    PythonName {
        /// The node.
        node: String,
        /// Its weight.
        weight: String,
        /// How the name should end.
        suffix: String,
    },
    /// The file's network does not hold together.
    #[error("{}: {source}", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<rankfold_graph::GraphError>,
    },
    /// A known kind of file, but not one of those that were asked for.
    #[error("{}: expected {expected}, found {got}", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// What would have done.
        expected: &'static str,
        /// What the file is.
        got: FileKind,
    },
    /// A safetensors file that contradicts its format.
    #[error("{}: {fault}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        fault: SafetensorsFault,
    },
    /// An index of shards that contradicts its shards.
    #[error("{}: tensor `{tensor}` should be in `{shard}`, which does not have it", path.display())]
    MissingFromShard {
        /// The index.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shard that the index names.
        shard: String,
    },
    /// An index of shards that names a file outside of its own folder.
    #[error("{}: shard `{shard}` is no plain file name", path.display())]
    ShardOutside {
        /// The index.
        path: PathBuf,
        /// The name given.
        shard: String,
    },
    /// A JSON file that could not be parsed.
    #[error("{}: invalid JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A zip archive that is damaged or hostile.
    #[error("{}: {fault}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        fault: ArchiveFault,
    },
    /// A pickle that is damaged, hostile or holds no tensors.
    #[error("{}: {fault}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        fault: PickleFault,
    },
    /// Two tensors of one name.
    #[error("{}: {fault}", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The name.
        #[source]
        fault: DuplicateTensor,
    },
    /// A coded weight that cannot be decoded.
    #[error("{}: {fault}", path.display())]
    Coded {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        fault: CodedFault,
    },
    /// An ONNX model that is damaged, hostile or cannot be written.
    #[error("{}: {fault}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        fault: OnnxFault,
    },
    /// A `torch.export` archive that is damaged, hostile or cannot be written.
    #[error("{}: {fault}", path.display())]
    Pt2 {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        fault: Box<Pt2Fault>,
    },
    /// A tensor that cannot be stored in the type asked for.
    #[error("{}: tensor `{tensor}` is {from} and cannot be stored as {to}", path.display())]
    Conversion {
        /// The file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type that it has.
        from: DType,
        /// The type asked for.
        to: DType,
    },
}

/// Bytes as text where they are text, else in hexadecimal.
fn legible(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if bytes.iter().all(plain) {
        return format!("`{}`", String::from_utf8_lossy(bytes));
    }
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("the bytes {}", hex.join(" "))
}

impl FormatError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::LfsPointer { .. } => "fetch the real file with `git lfs pull`",
            Self::WebPage { .. } => {
                "the download went wrong: fetch the file itself, not the page about it"
            }
            Self::WrongKind {
                got: FileKind::TorchScript,
                ..
            } => {
                "TorchScript archives hold code: save `model.state_dict()`, or export the model with `torch.export`"
            }
            Self::WrongKind {
                got: FileKind::Pt2 | FileKind::Onnx,
                ..
            } => "this file holds a whole network: give it as the model, without an architecture",
            Self::Unrecognised { .. } => {
                "known are .safetensors, .pth/.pt/.th/.bin, .ot, .pt2 and .onnx"
            }
            Self::Directory { .. } => "name a file inside the folder",
            Self::Pickle { fault, .. } => return fault.hint(),
            Self::Onnx { fault, .. } => return fault.hint(),
            Self::Pt2 { fault, .. } => return fault.hint(),
            Self::Safetensors { fault, .. } => return fault.hint(),
            _ => return None,
        })
    }
}
