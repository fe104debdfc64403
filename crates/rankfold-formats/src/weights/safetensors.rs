//! Safetensors: a JSON header and raw tensors.
//!
//! Headers are read and validated by the `safetensors` crate. They are written here, because the
//! crate writes `__metadata__` in the random order of a hash map, and the same model is to give
//! the same bytes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use ::safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorInfo};
use bytes::Bytes;
use rankfold_graph::{DType, Tensor};
use serde_json::Value;

use super::StateDict;
use crate::atomic::write_atomically;
use crate::error::FormatError;

/// The longest header that any reader of the format accepts.
pub(crate) const HEADER_LIMIT: u64 = 100_000_000;
/// Elements that are converted at a time.
const CHUNK: usize = 1 << 16;

/// In what a file contradicts the safetensors format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsFault {
    /// The file ends too early.
    #[error("expected {expected} bytes, found {got}: the file is truncated")]
    Truncated {
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes in the file.
        got: u64,
    },
    /// The file goes on after the last tensor.
    #[error("expected {expected} bytes, found {got}: bytes that belong to no tensor follow")]
    Trailing {
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes in the file.
        got: u64,
    },
    /// The header is longer than the format allows.
    #[error("the header takes {got} bytes, {limit} are allowed")]
    HeaderTooLarge {
        /// Length declared.
        got: u64,
        /// Length allowed.
        limit: u64,
    },
    /// The header is no JSON of the kind expected.
    #[error("invalid header: {0}")]
    Header(#[source] serde_json::Error),
    /// The header is no UTF-8.
    #[error("invalid header: {0}")]
    HeaderText(#[source] std::str::Utf8Error),
    /// A tensor of a type that networks here do not have.
    #[error("tensor `{tensor}` has type {got}; known are {}", KNOWN.join(", "))]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The type's name.
        got: String,
    },
    /// Shape and type need another number of bytes than the tensor has.
    #[error(
        "tensor `{tensor}` of shape {shape:?} and type {dtype}: expected {expected} bytes, found {got}"
    )]
    Size {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its type's name.
        dtype: String,
        /// Bytes that shape and type need.
        expected: u128,
        /// Bytes between the offsets.
        got: u64,
    },
    /// Tensors overlap, leave a hole or run backwards.
    #[error("tensor `{tensor}` has bytes {start}..{end}, but the one before it ends at {previous}")]
    Offsets {
        /// The tensor.
        tensor: String,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// End of the tensor before.
        previous: u64,
    },
    /// Anything else that the format's own reader refuses.
    #[error("{0}")]
    Other(#[source] SafeTensorError),
}

impl SafetensorsFault {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Truncated { .. } => Some("fetch or copy the file again"),
            _ => None,
        }
    }
}

const KNOWN: [&str; 10] = [
    "F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL",
];

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

fn stored_as(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

/// The tensors of a safetensors file, and its metadata.
///
/// Names that the metadata maps to a tensor are other names of it: so does PyTorch's
/// `safetensors.torch.save_model` keep tied weights.
pub(crate) fn read(
    path: &Path,
    bytes: &Bytes,
) -> Result<(StateDict, BTreeMap<String, String>), FormatError> {
    parse(bytes).map_err(|fault| FormatError::Safetensors {
        path: path.to_owned(),
        fault,
    })
}

fn parse(bytes: &Bytes) -> Result<(StateDict, BTreeMap<String, String>), SafetensorsFault> {
    let (header, info) = SafeTensors::read_metadata(bytes).map_err(|e| diagnose(bytes, e))?;
    let data = bytes.slice(8 + header..);
    let mut tensors = StateDict::new();
    for name in info.offset_keys() {
        let Some(tensor) = info.info(&name) else {
            continue;
        };
        let Some(dtype) = dtype_of(tensor.dtype) else {
            return Err(SafetensorsFault::Dtype {
                tensor: name,
                got: format!("{:?}", tensor.dtype),
            });
        };
        let (start, end) = tensor.data_offsets;
        let view = Tensor::new(dtype, tensor.shape.clone(), data.slice(start..end))
            .map_err(|_| SafetensorsFault::Other(SafeTensorError::TensorInvalidInfo))?;
        // Names are unique: they come from a map.
        let _ = tensors.insert(name, view);
    }
    let metadata: BTreeMap<_, _> = info
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    for (alias, name) in &metadata {
        if let Some(tensor) = tensors.get(name).cloned() {
            let _ = tensors.insert(alias, tensor);
        }
    }
    Ok((tensors, metadata))
}

struct Declared {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    start: u64,
    end: u64,
}

fn declared(header: &Value) -> Vec<Declared> {
    let number = |v: &Value| v.as_u64().unwrap_or(u64::MAX);
    let mut all: Vec<_> = header
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, v)| Declared {
            name: name.clone(),
            dtype: v["dtype"].as_str().unwrap_or("none").to_owned(),
            shape: v["shape"]
                .as_array()
                .into_iter()
                .flatten()
                .map(number)
                .collect(),
            start: number(&v["data_offsets"][0]),
            end: number(&v["data_offsets"][1]),
        })
        .collect();
    all.sort_by_key(|d| (d.start, d.end));
    all
}

/// What is wrong, with the tensor's name, where the format's own reader only says that it is.
fn diagnose(bytes: &[u8], error: SafeTensorError) -> SafetensorsFault {
    let got = bytes.len() as u64;
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return SafetensorsFault::Truncated { expected: 8, got };
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_LIMIT {
        return SafetensorsFault::HeaderTooLarge {
            got: length,
            limit: HEADER_LIMIT,
        };
    }
    let Some(header) = rest.get(..length as usize) else {
        return SafetensorsFault::Truncated {
            expected: 8 + length,
            got,
        };
    };
    let text = match std::str::from_utf8(header) {
        Ok(text) => text,
        Err(e) => return SafetensorsFault::HeaderText(e),
    };
    let header: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(e) => return SafetensorsFault::Header(e),
    };
    let declared = declared(&header);
    let mut previous = 0;
    for d in &declared {
        let named = serde_json::from_value::<Dtype>(Value::String(d.dtype.clone()));
        let Ok(dtype) = named else {
            return SafetensorsFault::Dtype {
                tensor: d.name.clone(),
                got: d.dtype.clone(),
            };
        };
        if d.start != previous || d.end < d.start {
            return SafetensorsFault::Offsets {
                tensor: d.name.clone(),
                start: d.start,
                end: d.end,
                previous,
            };
        }
        let bits = d.shape.iter().fold(dtype.bitsize() as u128, |n, &s| {
            n.saturating_mul(u128::from(s))
        });
        if bits != u128::from(d.end - d.start) * 8 {
            return SafetensorsFault::Size {
                tensor: d.name.clone(),
                shape: d.shape.clone(),
                dtype: d.dtype.clone(),
                expected: bits.div_ceil(8),
                got: d.end - d.start,
            };
        }
        previous = d.end;
    }
    let expected = (8 + length).saturating_add(previous);
    match error {
        SafeTensorError::InvalidHeaderDeserialization(e) => SafetensorsFault::Header(e),
        _ if expected > got => SafetensorsFault::Truncated { expected, got },
        _ if expected < got => SafetensorsFault::Trailing { expected, got },
        error => SafetensorsFault::Other(error),
    }
}

/// How tensors are written.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// Strings for the header, beside `format` = `pt`, which is always there.
    pub metadata: BTreeMap<String, String>,
    /// The type that all floating-point tensors are stored in; their own where there is none.
    pub float_dtype: Option<DType>,
}

/// Writes `tensors` to a safetensors file, all or nothing; the same tensors give the same bytes.
///
/// Tensors that share their bytes are stored once, under the first name; the other names are kept
/// in the metadata the way `safetensors.torch.load_model` reads them. At no time is more than a
/// small part of one tensor held in memory.
pub fn write_safetensors(
    path: &Path,
    tensors: &StateDict,
    options: &SaveOptions,
) -> Result<(), FormatError> {
    let mut metadata = options.metadata.clone();
    metadata.insert("format".to_owned(), "pt".to_owned());
    for group in tensors.tied() {
        for alias in &group[1..] {
            metadata.insert((*alias).to_owned(), group[0].to_owned());
        }
    }
    let mut order: Vec<(&str, &Tensor, DType)> = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors.iter() {
        let alias = |kept: &String| {
            kept != name && tensors.get(kept).is_some_and(|t| t.shares_storage(tensor))
        };
        if metadata.get(name).is_some_and(alias) {
            continue;
        }
        let dtype = match options.float_dtype {
            Some(to) if tensor.dtype().is_float() && to.is_float() => to,
            Some(to) if !to.is_float() => {
                return Err(FormatError::Conversion {
                    path: path.to_owned(),
                    tensor: name.to_owned(),
                    from: tensor.dtype(),
                    to,
                });
            }
            _ => tensor.dtype(),
        };
        order.push((name, tensor, dtype));
    }
    // Wide elements first, so that every tensor is aligned.
    order.sort_by_key(|(_, _, dtype)| std::cmp::Reverse(dtype.size()));

    let header = header(path, &order, &metadata)?;
    write_atomically(path, |writer| {
        let io = |source| FormatError::Io {
            path: path.to_owned(),
            source,
        };
        writer
            .write_all(&(header.len() as u64).to_le_bytes())
            .map_err(io)?;
        writer.write_all(&header).map_err(io)?;
        for (name, tensor, dtype) in &order {
            if *dtype == tensor.dtype() {
                writer.write_all(tensor.bytes()).map_err(io)?;
                continue;
            }
            let step = CHUNK * tensor.dtype().size();
            for start in (0..tensor.bytes().len()).step_by(step) {
                let part = tensor
                    .bytes()
                    .slice(start..tensor.bytes().len().min(start + step));
                let converted = Tensor::new(
                    tensor.dtype(),
                    vec![part.len() / tensor.dtype().size()],
                    part,
                )
                .and_then(|part| part.to_float_dtype(*dtype))
                .map_err(|_| FormatError::Conversion {
                    path: path.to_owned(),
                    tensor: (*name).to_owned(),
                    from: tensor.dtype(),
                    to: *dtype,
                })?;
                writer.write_all(converted.bytes()).map_err(io)?;
            }
        }
        Ok(())
    })
}

fn header(
    path: &Path,
    order: &[(&str, &Tensor, DType)],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, FormatError> {
    let json = |source| FormatError::Json {
        path: path.to_owned(),
        source,
    };
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"__metadata__\":");
    serde_json::to_writer(&mut out, metadata).map_err(json)?;
    let mut offset = 0;
    for (name, tensor, dtype) in order {
        let end = offset + tensor.len() * dtype.size();
        let info = TensorInfo {
            dtype: stored_as(*dtype),
            shape: tensor.shape().to_vec(),
            data_offsets: (offset, end),
        };
        offset = end;
        out.push(b',');
        serde_json::to_writer(&mut out, name).map_err(json)?;
        out.push(b':');
        serde_json::to_writer(&mut out, &info).map_err(json)?;
    }
    out.push(b'}');
    out.resize(out.len().next_multiple_of(8), b' ');
    if out.len() as u64 > HEADER_LIMIT {
        return Err(FormatError::Safetensors {
            path: path.to_owned(),
            fault: SafetensorsFault::HeaderTooLarge {
                got: out.len() as u64,
                limit: HEADER_LIMIT,
            },
        });
    }
    Ok(out)
}
