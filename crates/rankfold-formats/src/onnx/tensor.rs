//! Tensors of ONNX files: in the file, in typed fields, or in a file beside it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rankfold_graph::{DType, Dim, Fact, Tensor, element_count};

use super::OnnxFault;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use crate::error::FormatError;
use crate::map::Mapping;

/// The element type that ONNX numbers so.
pub(super) fn dtype_of(number: i32) -> Option<DType> {
    Some(match DataType::try_from(number).ok()? {
        DataType::Double => DType::F64,
        DataType::Float => DType::F32,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::BF16,
        DataType::Int64 => DType::I64,
        DataType::Int32 => DType::I32,
        DataType::Int16 => DType::I16,
        DataType::Int8 => DType::I8,
        DataType::Uint8 => DType::U8,
        DataType::Bool => DType::Bool,
        _ => return None,
    })
}

/// ONNX's number for an element type.
pub(super) fn number_of(dtype: DType) -> i32 {
    let number = match dtype {
        DType::F64 => DataType::Double,
        DType::F32 => DataType::Float,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::I64 => DataType::Int64,
        DType::I32 => DataType::Int32,
        DType::I16 => DataType::Int16,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
        DType::Bool => DataType::Bool,
    };
    number as i32
}

/// What a file says of a value; none where it is no tensor of a known type.
pub(super) fn fact_of(info: &ValueInfoProto) -> Option<Fact> {
    let Some(type_proto::Value::TensorType(tensor)) = &info.r#type.as_ref()?.value else {
        return None;
    };
    let dim = |d: &Dimension| match &d.value {
        Some(dimension::Value::DimValue(n)) => usize::try_from(*n).map_or(Dim::UNKNOWN, Dim::Fixed),
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => {
            Dim::Symbol(name.as_str().into())
        }
        _ => Dim::UNKNOWN,
    };
    Some(Fact {
        dtype: dtype_of(tensor.elem_type())?,
        shape: tensor
            .shape
            .as_ref()
            .map(|s| s.dim.iter().map(dim).collect()),
    })
}

/// A value as a file describes it.
pub(super) fn info_of(name: &str, fact: &Fact) -> ValueInfoProto {
    let dim = |d: &Dim| Dimension {
        denotation: None,
        value: match d {
            Dim::Fixed(n) => Some(dimension::Value::DimValue(*n as i64)),
            Dim::Symbol(name) => Some(dimension::Value::DimParam(name.to_string())),
            Dim::Unknown(()) => None,
        },
    };
    let shape = fact.shape.as_ref().map(|shape| TensorShapeProto {
        dim: shape.iter().map(dim).collect(),
    });
    let tensor = type_proto::Tensor {
        elem_type: Some(number_of(fact.dtype)),
        shape,
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            denotation: None,
            value: Some(type_proto::Value::TensorType(tensor)),
        }),
        ..ValueInfoProto::default()
    }
}

/// Reads tensors, opening every file beside the model once.
#[derive(Debug)]
pub(super) struct Tensors {
    folder: PathBuf,
    files: HashMap<String, Mapping>,
}

impl Tensors {
    /// For the model at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Self {
            folder,
            files: HashMap::new(),
        }
    }

    /// The tensor that `proto` describes; none where its type is not known.
    pub(super) fn read(&mut self, proto: &TensorProto) -> Result<Option<Tensor>, OnnxFault> {
        let Some(dtype) = dtype_of(proto.data_type()) else {
            return Ok(None);
        };
        let impossible = || OnnxFault::Shape {
            tensor: proto.name().to_owned(),
            shape: proto.dims.clone(),
        };
        let sizes = proto.dims.iter().map(|&d| usize::try_from(d).ok());
        let shape: Vec<usize> = sizes.collect::<Option<_>>().ok_or_else(impossible)?;
        let count = element_count(&shape).map_err(|_| impossible())?;
        let data = if proto.data_location() == DataLocation::External {
            self.external(proto, count * dtype.size())?
        } else if let Some(raw) = &proto.raw_data {
            raw.clone()
        } else {
            typed(proto, dtype)
        };
        let got = data.len() as u64;
        let tensor = Tensor::new(dtype, shape, data).map_err(|_| OnnxFault::Size {
            tensor: proto.name().to_owned(),
            shape: proto.dims.clone(),
            expected: (count * dtype.size()) as u64,
            got,
        })?;
        Ok(Some(tensor))
    }

    /// The files that were opened, in the order of their names.
    pub(super) fn into_files(self) -> Vec<(PathBuf, Mapping)> {
        let folder = self.folder;
        let mut files: Vec<_> = (self.files.into_iter())
            .map(|(location, file)| (folder.join(location), file))
            .collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files
    }

    fn external(&mut self, proto: &TensorProto, len: usize) -> Result<Bytes, OnnxFault> {
        let entry = |key: &str| {
            let found = proto.external_data.iter().find(|e| e.key() == key);
            found.map(|e| e.value().to_owned())
        };
        let location = entry("location").unwrap_or_default();
        let number = |key: &str, default: u64| {
            entry(key)
                .map_or(Some(default), |text| text.parse().ok())
                .unwrap_or(u64::MAX)
        };
        let (offset, length) = (number("offset", 0), number("length", len as u64));
        let tensor = proto.name().to_owned();
        let file = match self.files.get(&location) {
            Some(file) => file.bytes(),
            None => {
                let file = self.open(&tensor, &location)?;
                let bytes = file.bytes();
                self.files.insert(location.clone(), file);
                bytes
            }
        };
        let end = offset.saturating_add(length);
        if end > file.len() as u64 {
            return Err(OnnxFault::PastEnd {
                tensor,
                location,
                end,
                available: file.len() as u64,
            });
        }
        Ok(file.slice(offset as usize..end as usize))
    }

    fn open(&self, tensor: &str, location: &str) -> Result<Mapping, OnnxFault> {
        let file = self.folder.join(location);
        let failed = |source| OnnxFault::External {
            tensor: tensor.to_owned(),
            file: file.clone(),
            source,
        };
        let folder = self.folder.canonicalize().map_err(failed)?;
        let plain = Path::new(location)
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)));
        let outside = || OnnxFault::Outside {
            tensor: tensor.to_owned(),
            location: location.to_owned(),
        };
        if location.is_empty() || !plain {
            return Err(outside());
        }
        let real = file.canonicalize().map_err(failed)?;
        if !real.starts_with(&folder) {
            return Err(outside());
        }
        Mapping::open(&real).map_err(|e| match e {
            FormatError::Io { source, .. } => failed(source),
            other => failed(std::io::Error::other(other)),
        })
    }
}

/// The bytes of a tensor kept in fields of its type.
fn typed(proto: &TensorProto, dtype: DType) -> Bytes {
    let narrow = |size: usize| -> Vec<u8> {
        let bytes = proto.int32_data.iter().map(|v| v.to_le_bytes());
        bytes.flat_map(|b| b.into_iter().take(size)).collect()
    };
    let bytes: Vec<u8> = match dtype {
        DType::F32 => proto
            .float_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        DType::F64 => proto
            .double_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        DType::I64 => proto
            .int64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        DType::I32 | DType::I16 | DType::I8 | DType::U8 | DType::Bool => narrow(dtype.size()),
        DType::F16 | DType::BF16 => narrow(2),
    };
    bytes.into()
}

/// A tensor without its data, which follows when it is written.
pub(super) fn header_of(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: Some(number_of(tensor.dtype())),
        name: Some(name.to_owned()),
        ..TensorProto::default()
    }
}
