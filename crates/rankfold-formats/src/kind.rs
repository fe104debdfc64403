//! Telling kinds of model files apart by what they contain.

use std::fmt;
use std::path::Path;

use crate::archive::Archive;
use crate::error::FormatError;
use crate::weights::HEADER_LIMIT;

/// A kind of model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A `.safetensors` file.
    Safetensors,
    /// The JSON index of a model split over several safetensors files.
    SafetensorsIndex,
    /// What `torch.save` writes since PyTorch 1.6: a zip archive around a pickle.
    TorchZip,
    /// What `torch.save` wrote before: pickles followed by raw storages. Bare pickles too.
    TorchLegacy,
    /// The named tensors that libtorch's `OutputArchive` writes (`.ot`).
    TorchNamed,
    /// A TorchScript archive.
    TorchScript,
    /// A `torch.export` archive.
    Pt2,
    /// An ONNX model.
    Onnx,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "a safetensors file",
            Self::SafetensorsIndex => "an index of safetensors shards",
            Self::TorchZip => "a PyTorch checkpoint",
            Self::TorchLegacy => "a PyTorch checkpoint of the old form",
            Self::TorchNamed => "a libtorch archive of named tensors",
            Self::TorchScript => "a TorchScript archive",
            Self::Pt2 => "a torch.export archive",
            Self::Onnx => "an ONNX model",
        })
    }
}

impl FileKind {
    /// The kind of the file at `path`.
    pub fn detect(path: &Path) -> Result<Self, FormatError> {
        let bytes = crate::map::map_file(path)?;
        if bytes.starts_with(b"PK") {
            return of_archive(&Archive::new(path, bytes)?);
        }
        of_plain(path, &bytes)
    }
}

/// The kind of an archive, by the entries it has.
pub(crate) fn of_archive(archive: &Archive) -> Result<FileKind, FormatError> {
    if archive.find("models/model.json").is_some() || archive.find("archive_format").is_some() {
        return Ok(FileKind::Pt2);
    }
    if archive.find("data.pkl").is_some() {
        return if archive.find("constants.pkl").is_some() {
            crate::pickle::script_or_named(archive)
        } else {
            Ok(FileKind::TorchZip)
        };
    }
    Err(unrecognised(archive.path(), archive.bytes()))
}

/// The kind of a file that is no zip archive.
pub(crate) fn of_plain(path: &Path, bytes: &[u8]) -> Result<FileKind, FormatError> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(FormatError::LfsPointer {
            path: path.to_owned(),
        });
    }
    if is_web_page(bytes) {
        return Err(FormatError::WebPage {
            path: path.to_owned(),
        });
    }
    if is_safetensors(bytes) {
        return Ok(FileKind::Safetensors);
    }
    if bytes.first() == Some(&0x80) && matches!(bytes.get(1), Some(0..=5)) {
        return Ok(FileKind::TorchLegacy);
    }
    // `ir_version` is field 1 of an ONNX model, and its writers put it first.
    if bytes.first() == Some(&0x08) && matches!(bytes.get(1), Some(1..=32)) && bytes.len() > 2 {
        return Ok(FileKind::Onnx);
    }
    let text = bytes.trim_ascii_start();
    if text.first() == Some(&b'{') {
        return Ok(FileKind::SafetensorsIndex);
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    if ["pth", "pt", "th", "bin", "pkl"].contains(&extension) && is_text_pickle(bytes) {
        return Ok(FileKind::TorchLegacy);
    }
    Err(unrecognised(path, bytes))
}

fn unrecognised(path: &Path, bytes: &[u8]) -> FormatError {
    FormatError::Unrecognised {
        path: path.to_owned(),
        start: bytes[..bytes.len().min(8)].to_vec(),
    }
}

/// A header length, then the `{` of its JSON. A length over the limit still counts, so that the
/// reader can say so.
fn is_safetensors(bytes: &[u8]) -> bool {
    match bytes.split_first_chunk::<8>() {
        Some((length, [b'{', ..])) => {
            let length = u64::from_le_bytes(*length);
            length <= HEADER_LIMIT || length.to_le_bytes().iter().any(|b| !b.is_ascii_graphic())
        }
        _ => false,
    }
}

fn is_web_page(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    let head = text[..text.len().min(512)].to_ascii_lowercase();
    head.starts_with(b"<!doctype html") || head.starts_with(b"<html") || {
        head.starts_with(b"<") && head.windows(5).any(|w| w == b"<html")
    }
}

/// Pickles of protocol 0 have no magic: they begin with a mark or a global, and end with a stop.
fn is_text_pickle(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'(' | b'c' | b'}' | b']')) && bytes.contains(&b'.')
}
