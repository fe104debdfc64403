//! Tensor files: a safetensors of named inputs, one row per item, with or without `labels` or `targets`.

use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorInfo};

use crate::DataError;
use crate::batch::{Buffers, Input, TensorData};
use crate::bytes::Bytes;

pub(crate) const LAYOUT: &str = "the file should hold one or more inputs whose first dimension \
    counts the items, of type f32, f16, bf16, f64, i64 or i32, and may hold `labels`, one whole \
    number (not negative) per item, and `targets`, the numbers that a network should give";

const LABELS: &str = "labels";
const TARGETS: &str = "targets";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    F32,
    F16,
    Bf16,
    F64,
    I64,
    I32,
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

#[derive(Debug)]
struct Column {
    name: Arc<str>,
    kind: Kind,
    /// Shape of one item.
    shape: Vec<usize>,
    /// Where the first item begins in the file.
    start: usize,
    /// Bytes of one item.
    stride: usize,
}

/// The inputs of a tensor file, mapped.
#[derive(Debug)]
pub(crate) struct TensorFile {
    bytes: Bytes,
    len: usize,
    columns: Vec<Column>,
    labels: Option<Vec<i64>>,
    targets: Option<Column>,
}

impl TensorFile {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        if let Err(error) = std::fs::metadata(path) {
            return Err(match error.kind() {
                std::io::ErrorKind::NotFound => DataError::NotFound {
                    path: path.to_owned(),
                    layout: LAYOUT,
                },
                _ => DataError::Io {
                    path: path.to_owned(),
                    source: error,
                },
            });
        }
        let bytes = Bytes::map(path)?;
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|source| DataError::Safetensors {
                path: path.to_owned(),
                source,
            })?;
        let mut tensors: Vec<(String, &TensorInfo)> = metadata.tensors().into_iter().collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let body = 8 + header;

        let first = tensors
            .iter()
            .find(|(name, _)| name != LABELS && name != TARGETS);
        let (_, first) = first.ok_or_else(|| DataError::NoInputs {
            path: path.to_owned(),
        })?;
        let len = first.shape.first().copied().unwrap_or(0);

        let (mut columns, mut labels, mut targets) = (Vec::new(), None, None);
        for (name, info) in &tensors {
            let column = Column::new(path, name, info, len, body)?;
            match name.as_str() {
                LABELS => labels = Some(column.labels(path, &bytes, len)?),
                TARGETS => targets = Some(column),
                _ => columns.push(column),
            }
        }
        Ok(Self {
            bytes,
            len,
            columns,
            labels,
            targets,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn labels(&self) -> Option<&[i64]> {
        self.labels.as_deref()
    }

    /// Name and item shape of every input.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = (&Arc<str>, &[usize])> {
        self.columns
            .iter()
            .map(|column| (&column.name, column.shape.as_slice()))
    }

    /// The given items of every input.
    pub(crate) fn gather(&self, items: &[usize], buffers: &Arc<Buffers>) -> Vec<Input> {
        let columns = self.columns.iter();
        columns
            .map(|column| self.rows(column, items, buffers))
            .collect()
    }

    /// What a network should give for the given items, where the file says.
    pub(crate) fn targets(&self, items: &[usize], buffers: &Arc<Buffers>) -> Option<Input> {
        let targets = self.targets.as_ref()?;
        Some(self.rows(targets, items, buffers))
    }

    fn rows(&self, column: &Column, items: &[usize], buffers: &Arc<Buffers>) -> Input {
        let rows = items
            .iter()
            .map(|i| &self.bytes[column.start + i * column.stride..][..column.stride]);
        Input {
            name: Some(column.name.clone()),
            shape: [&[items.len()], column.shape.as_slice()].concat(),
            data: column.gather(rows, items.len(), buffers),
        }
    }
}

impl Column {
    fn new(
        path: &Path,
        name: &str,
        info: &TensorInfo,
        len: usize,
        body: usize,
    ) -> Result<Self, DataError> {
        let kind = match info.dtype {
            Dtype::F32 => Kind::F32,
            Dtype::F16 => Kind::F16,
            Dtype::BF16 => Kind::Bf16,
            Dtype::F64 => Kind::F64,
            Dtype::I64 => Kind::I64,
            Dtype::I32 => Kind::I32,
            other => {
                let (path, tensor) = (path.to_owned(), name.to_owned());
                return Err(DataError::Dtype {
                    path,
                    tensor,
                    expected: "f32, f16, bf16, f64, i64 or i32",
                    found: format!("{other:?}"),
                });
            }
        };
        if info.shape.first() != Some(&len) || info.shape.contains(&0) {
            return Err(DataError::TensorShape {
                path: path.to_owned(),
                tensor: name.to_owned(),
                found: info.shape.clone(),
                expected: format!("[{}, …], none of them 0", len.max(1)),
            });
        }
        let shape = info.shape[1..].to_vec();
        let stride = shape.iter().product::<usize>() * kind.size();
        Ok(Self {
            name: name.into(),
            kind,
            shape,
            start: body + info.data_offsets.0,
            stride,
        })
    }

    fn labels(&self, path: &Path, bytes: &[u8], len: usize) -> Result<Vec<i64>, DataError> {
        let (path, tensor) = (path.to_owned(), LABELS.to_owned());
        if !matches!(self.kind, Kind::I64 | Kind::I32) {
            return Err(DataError::Dtype {
                path,
                tensor,
                expected: "i64 or i32",
                found: format!("{:?}", self.kind).to_lowercase(),
            });
        }
        if !self.shape.is_empty() {
            return Err(DataError::TensorShape {
                path,
                tensor,
                found: [&[len], self.shape.as_slice()].concat(),
                expected: format!("[{len}]"),
            });
        }
        let body = &bytes[self.start..][..len * self.stride];
        let labels = integers(self.kind, body);
        match labels.iter().position(|&label| label < 0) {
            None => Ok(labels),
            Some(index) => Err(DataError::NegativeLabel {
                path,
                index,
                found: labels[index],
            }),
        }
    }

    fn gather<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u8]>,
        count: usize,
        buffers: &Arc<Buffers>,
    ) -> TensorData {
        let width = self.stride / self.kind.size();
        if matches!(self.kind, Kind::I64 | Kind::I32) {
            return TensorData::I64(rows.flat_map(|row| integers(self.kind, row)).collect());
        }
        let mut buffer = buffers.take(count * width);
        for (to, row) in buffer.chunks_exact_mut(width).zip(rows) {
            match self.kind {
                Kind::F32 => each(row, to, f32::from_le_bytes),
                Kind::F16 => each(row, to, |b| f16::from_le_bytes(b).to_f32()),
                Kind::Bf16 => each(row, to, |b| bf16::from_le_bytes(b).to_f32()),
                Kind::F64 => each(row, to, |b| f64::from_le_bytes(b) as f32),
                Kind::I64 | Kind::I32 => {}
            }
        }
        TensorData::F32(buffer)
    }
}

fn each<const N: usize>(from: &[u8], to: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in to.iter_mut().zip(from.as_chunks::<N>().0) {
        *value = read(*bytes);
    }
}

fn integers(kind: Kind, row: &[u8]) -> Vec<i64> {
    match kind {
        Kind::I32 => row
            .as_chunks()
            .0
            .iter()
            .map(|b| i32::from_le_bytes(*b).into())
            .collect(),
        _ => row
            .as_chunks()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b))
            .collect(),
    }
}
