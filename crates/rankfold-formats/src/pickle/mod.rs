//! PyTorch checkpoints. A pickle is a program; here it is read as data.
//!
//! The `pytorch-reader` crate reads the same files; it copies every tensor, loses their order and
//! which of them are one storage, and takes unknown globals for values. Hence this reader: the
//! machine in `machine` knows the opcodes and the globals that tensors need, refuses every other
//! global by name and calls nothing.

mod globals;
mod legacy;
mod machine;
mod reduce;
mod run;
mod select;
mod storage;

use std::path::Path;

use bytes::Bytes;

pub use self::machine::MachineFault;
use self::machine::{Machine, Value};
use self::storage::Storages;
use crate::archive::Archive;
use crate::error::FormatError;
use crate::kind::FileKind;
use crate::weights::{StateDict, without_wrappers};

/// What makes a pickle unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PickleFault {
    /// The pickle wants to use a function or class that tensors do not need.
    #[error("the pickle names `{name}`, which no tensor needs: refused, and nothing was executed")]
    Forbidden {
        /// Module and name.
        name: String,
    },
    /// The pickle itself is broken.
    #[error("invalid pickle at byte {at}: {fault}")]
    Invalid {
        /// Where.
        at: usize,
        /// What is wrong.
        #[source]
        fault: MachineFault,
    },
    /// There is a pickle, but no tensors in it.
    #[error("expected tensors, found none")]
    NoTensors,
    /// A dictionary key that is not there.
    #[error("no dictionary `{key}`; there are: {}", found.join(", "))]
    NoSuchKey {
        /// The key asked for.
        key: String,
        /// Keys that are there.
        found: Vec<String>,
    },
    /// Containers that contain themselves.
    #[error("`{name}` contains itself")]
    Cyclic {
        /// Where it was met.
        name: String,
    },
    /// Containers nested beyond reason.
    #[error("`{name}` is nested deeper or wider than any network")]
    TooDeep {
        /// Where it was met.
        name: String,
    },
    /// A tensor of a type that networks here do not have.
    #[error("tensor `{tensor}` has type {got}, which is not supported")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The type's name.
        got: String,
    },
    /// A tensor that reaches out of its storage.
    #[error(
        "tensor `{tensor}` of shape {shape:?} with strides {strides:?} from element {offset} does not fit its storage of {available} elements"
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
        /// Elements that the storage has.
        available: usize,
    },
    /// A small storage that is to be repeated into a huge tensor.
    #[error("tensor `{tensor}` of shape {shape:?} repeats {available} elements beyond measure")]
    Repeats {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Elements that the storage has.
        available: usize,
    },
    /// A storage that is not in the file.
    #[error("storage `{key}` is missing")]
    MissingStorage {
        /// Its key.
        key: String,
    },
    /// A storage that ends too early.
    #[error("storage `{key}`: expected {expected} bytes, found {got}: the file is truncated")]
    ShortStorage {
        /// Its key.
        key: String,
        /// Bytes declared.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
    /// Bytes in the order of another kind of machine.
    #[error("the tensors are stored big-endian, which is not supported")]
    BigEndian,
}

impl PickleFault {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Forbidden { .. } => {
                Some("save the bare weights: `torch.save(model.state_dict(), path)`")
            }
            Self::ShortStorage { .. } => Some("fetch or copy the file again"),
            _ => None,
        }
    }
}

fn wrap(path: &Path) -> impl Fn(PickleFault) -> FormatError + Copy + '_ {
    move |fault| FormatError::Pickle {
        path: path.to_owned(),
        fault,
    }
}

/// The tensors of a zip checkpoint or an `.ot` archive.
pub(crate) fn read_archive(
    archive: &Archive,
    kind: FileKind,
    key: Option<&str>,
) -> Result<StateDict, FormatError> {
    let fault = wrap(archive.path());
    if archive.find("byteorder").is_some() && &archive.read("byteorder")?[..] == b"big" {
        return Err(fault(PickleFault::BigEndian));
    }
    let pickle = archive.read("data.pkl")?;
    let mut machine = Machine::new(kind == FileKind::TorchNamed);
    let (root, _) = machine.run(&pickle).map_err(fault)?;
    let chosen = select::tensors(&machine, &root, key).map_err(fault)?;
    let mut storages = Storages::new(&machine);
    for (index, storage) in machine.storages().iter().enumerate() {
        let entry = format!("data/{}", storage.key);
        if archive.find(&entry).is_none() {
            let key = storage.key.to_string();
            return Err(fault(PickleFault::MissingStorage { key }));
        }
        storages
            .supply(index, archive.read(&entry)?)
            .map_err(fault)?;
    }
    let dict = storages.resolve(archive.path(), chosen)?;
    if kind == FileKind::TorchNamed {
        // Attribute names cannot have dots, so writers of `.ot` put bars in their place.
        return Ok(dict
            .into_iter()
            .map(|(name, tensor)| (name.replace('|', "."), tensor))
            .collect());
    }
    Ok(without_wrappers(dict))
}

/// The tensors of a checkpoint of the old form.
pub(crate) fn read_legacy(
    path: &Path,
    bytes: &Bytes,
    key: Option<&str>,
) -> Result<StateDict, FormatError> {
    legacy::read(path, bytes, key).map(without_wrappers)
}

/// Whether an archive with code in it holds a program or, as `.ot` does, tensors alone.
pub(crate) fn script_or_named(archive: &Archive) -> Result<FileKind, FormatError> {
    let pickle = archive.read("data.pkl")?;
    let mut machine = Machine::new(true);
    Ok(match machine.run(&pickle) {
        Ok((Value::Object(attributes), _)) if select::only_tensors(&machine, attributes) => {
            FileKind::TorchNamed
        }
        _ => FileKind::TorchScript,
    })
}
