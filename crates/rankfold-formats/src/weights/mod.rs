//! Files of named tensors.

mod convention;
mod safetensors;
mod shards;
mod state_dict;

use std::collections::BTreeMap;
use std::path::Path;

use crate::archive::Archive;
use crate::error::FormatError;
use crate::kind::{self, FileKind};
use crate::{map, pickle};

pub(crate) use self::convention::without_wrappers;
pub(crate) use self::safetensors::HEADER_LIMIT;
pub use self::safetensors::{SafetensorsFault, SaveOptions, write_safetensors};
pub use self::state_dict::{DuplicateTensor, Mismatch, NonFinite, StateDict, WrongShape};

/// A file of named tensors, opened.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What kind of file it is.
    pub kind: FileKind,
    /// The tensors, in the file's own order.
    pub tensors: StateDict,
    /// The file's own strings (`__metadata__` of safetensors; empty for other kinds).
    pub metadata: BTreeMap<String, String>,
}

/// The tensors in the file at `path`, whose kind is told by its content.
///
/// Dictionaries around the weights (`state_dict`, `model`, `model_state_dict`, `ema`, …) are
/// opened and prefixes that wrappers leave on every name (`module.`, `_orig_mod.`) are taken off.
pub fn read_weights(path: &Path) -> Result<Checkpoint, FormatError> {
    read(path, None)
}

/// Like [`read_weights`], from under `key`, a path of dictionary keys joined by dots.
pub fn read_weights_at(path: &Path, key: &str) -> Result<Checkpoint, FormatError> {
    read(path, Some(key))
}

fn read(path: &Path, key: Option<&str>) -> Result<Checkpoint, FormatError> {
    let bytes = map::map_file(path)?;
    let plain = |kind, tensors| Checkpoint {
        kind,
        tensors,
        metadata: BTreeMap::new(),
    };
    if bytes.starts_with(b"PK") {
        let archive = Archive::new(path, bytes)?;
        let kind = kind::of_archive(&archive)?;
        return match kind {
            FileKind::TorchZip | FileKind::TorchNamed => {
                Ok(plain(kind, pickle::read_archive(&archive, kind, key)?))
            }
            got => Err(no_weights(path, got)),
        };
    }
    let kind = kind::of_plain(path, &bytes)?;
    match kind {
        FileKind::Safetensors => {
            let (tensors, metadata) = safetensors::read(path, &bytes)?;
            Ok(Checkpoint {
                kind,
                tensors,
                metadata,
            })
        }
        FileKind::SafetensorsIndex => {
            let (tensors, metadata) = shards::read(path, &bytes)?;
            Ok(Checkpoint {
                kind,
                tensors,
                metadata,
            })
        }
        FileKind::TorchLegacy => Ok(plain(kind, pickle::read_legacy(path, &bytes, key)?)),
        got => Err(no_weights(path, got)),
    }
}

fn no_weights(path: &Path, got: FileKind) -> FormatError {
    FormatError::WrongKind {
        path: path.to_owned(),
        expected: "a file of named tensors",
        got,
    }
}
