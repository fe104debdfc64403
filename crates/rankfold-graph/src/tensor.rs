//! Tensors as bytes: a type, a shape, and shared, contiguous, little-endian data.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::code::Code;

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// One byte, zero or one.
    Bool,
}

impl DType {
    /// Bytes an element takes.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// True for the floating-point types.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
        })
    }
}

/// What a tensor refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The bytes do not match type and shape.
    #[error("a {dtype} tensor of shape {shape:?} takes {expected} bytes, found {got}")]
    Length {
        /// Element type.
        dtype: DType,
        /// Shape asked for.
        shape: Vec<usize>,
        /// Bytes that type and shape need.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// The number of elements overflows.
    #[error("a tensor of shape {shape:?} has more elements than memory can hold")]
    TooLarge {
        /// Shape asked for.
        shape: Vec<usize>,
    },
    /// A float view of something that is no float.
    #[error("expected a floating-point tensor, found {dtype}")]
    NotFloat {
        /// Type found.
        dtype: DType,
    },
}

/// A contiguous row-major tensor. Cloning shares the data.
///
/// Floats that were decoded keep their code beside them, so that whoever stores them can store that;
/// what is computed from them has none.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes,
    code: Option<Arc<Code>>,
}

/// The number of elements of `shape`, or an error where it overflows.
pub fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= isize::MAX as usize / 8)
        .ok_or_else(|| TensorError::TooLarge {
            shape: shape.to_vec(),
        })
}

impl Tensor {
    /// A tensor over `data`, which may be a slice of a mapped file.
    pub fn new(dtype: DType, shape: Vec<usize>, data: Bytes) -> Result<Self, TensorError> {
        let expected = element_count(&shape)? * dtype.size();
        if expected != data.len() {
            return Err(TensorError::Length {
                dtype,
                shape,
                expected,
                got: data.len(),
            });
        }
        Ok(Self {
            dtype,
            shape,
            data,
            code: None,
        })
    }

    /// The floats that a code stands for.
    pub fn coded(code: Code) -> Result<Self, TensorError> {
        let plain = Self::from_f32(code.shape().to_vec(), code.decode()?)?;
        Ok(Self {
            code: Some(Arc::new(code)),
            ..plain
        })
    }

    /// An f32 tensor that takes `values` over without copying them.
    pub fn from_f32(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, TensorError> {
        Self::from_pod(DType::F32, shape, values)
    }

    /// An f64 tensor that takes `values` over without copying them.
    pub fn from_f64(shape: Vec<usize>, values: Vec<f64>) -> Result<Self, TensorError> {
        Self::from_pod(DType::F64, shape, values)
    }

    /// An i64 tensor that takes `values` over without copying them.
    pub fn from_i64(shape: Vec<usize>, values: Vec<i64>) -> Result<Self, TensorError> {
        Self::from_pod(DType::I64, shape, values)
    }

    fn from_pod<T: bytemuck::Pod + Send>(
        dtype: DType,
        shape: Vec<usize>,
        values: Vec<T>,
    ) -> Result<Self, TensorError> {
        struct Owner<T>(Vec<T>);
        impl<T: bytemuck::Pod> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        Self::new(dtype, shape, Bytes::from_owner(Owner(values)))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Shape, outermost dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// True where there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The raw little-endian bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// The code that the floats were decoded from, where there is one.
    pub fn code(&self) -> Option<&Code> {
        self.code.as_deref()
    }

    /// Bytes that the tensor takes in a file: those of its code, where it has one.
    pub fn stored_bytes(&self) -> usize {
        self.code()
            .map_or(self.data.len(), |code| code.stored_bytes())
    }

    /// True where both are views of the very same bytes.
    pub fn shares_storage(&self, other: &Self) -> bool {
        self.data.as_ptr() == other.data.as_ptr() && self.data.len() == other.data.len()
    }

    /// The same data under another shape of as many elements.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Self, TensorError> {
        Self::new(self.dtype, shape, self.data.clone())
    }

    /// The entries of an axis at those places, in that order; none where there is no such axis or place.
    pub fn pick(&self, axis: usize, places: &[usize]) -> Option<Self> {
        let size = *self.shape.get(axis)?;
        if places.iter().any(|&place| place >= size) {
            return None;
        }
        let entry = self.shape[axis + 1..].iter().product::<usize>() * self.dtype.size();
        let mut data = Vec::new();
        for block in self.data.chunks_exact((size * entry).max(1)) {
            for &place in places {
                data.extend_from_slice(&block[place * entry..][..entry]);
            }
        }
        let mut shape = self.shape.clone();
        shape[axis] = places.len();
        Self::new(self.dtype, shape, data.into()).ok()
    }

    /// The elements as f32: borrowed where they are aligned f32 already, converted otherwise.
    pub fn to_f32(&self) -> Result<Cow<'_, [f32]>, TensorError> {
        Ok(match self.dtype {
            DType::F32 => match bytemuck::try_cast_slice(&self.data) {
                Ok(values) => Cow::Borrowed(values),
                Err(_) => Cow::Owned(self.decode(f32::from_le_bytes)),
            },
            DType::F64 => Cow::Owned(self.decode(|b| f64::from_le_bytes(b) as f32)),
            DType::F16 => Cow::Owned(self.decode(|b| f16::from_le_bytes(b).to_f32())),
            DType::BF16 => Cow::Owned(self.decode(|b| bf16::from_le_bytes(b).to_f32())),
            dtype => return Err(TensorError::NotFloat { dtype }),
        })
    }

    /// The elements as i64, of any integer type; none for floats.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self.dtype {
            DType::I64 => self.decode(i64::from_le_bytes),
            DType::I32 => self.decode(|b| i64::from(i32::from_le_bytes(b))),
            DType::I16 => self.decode(|b| i64::from(i16::from_le_bytes(b))),
            DType::I8 => self.decode(|b| i64::from(i8::from_le_bytes(b))),
            DType::U8 | DType::Bool => self.decode(|[b]: [u8; 1]| i64::from(b)),
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => return None,
        })
    }

    /// A tensor of another floating-point type holding the nearest values.
    pub fn to_float_dtype(&self, dtype: DType) -> Result<Self, TensorError> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        let values = self.to_f32()?;
        let data: Vec<u8> = match dtype {
            DType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::F64 if self.dtype == DType::F64 => return Ok(self.clone()),
            DType::F64 => values
                .iter()
                .flat_map(|v| f64::from(*v).to_le_bytes())
                .collect(),
            DType::F16 => values
                .iter()
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect(),
            DType::BF16 => values
                .iter()
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
            _ => return Err(TensorError::NotFloat { dtype }),
        };
        Self::new(dtype, self.shape.clone(), data.into())
    }

    /// The index of the first NaN or infinite element; none for finite and for integer tensors.
    pub fn first_non_finite(&self) -> Option<usize> {
        self.to_f32().ok()?.iter().position(|v| !v.is_finite())
    }

    fn decode<const N: usize, T>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (chunks, _) = self.data.as_chunks::<N>();
        chunks.iter().map(|&b| convert(b)).collect()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {:?})", self.dtype, self.shape)
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && self.data == other.data
            && self.code == other.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_length_names_both_sizes() {
        let err = Tensor::new(DType::F32, vec![2, 3], Bytes::from_static(&[0; 20])).unwrap_err();
        assert_eq!(
            err.to_string(),
            "a f32 tensor of shape [2, 3] takes 24 bytes, found 20"
        );
    }

    #[test]
    fn overflowing_shape_is_refused() {
        let err = Tensor::new(DType::F32, vec![usize::MAX, 2], Bytes::new()).unwrap_err();
        assert!(matches!(err, TensorError::TooLarge { .. }));
    }

    #[test]
    fn float_types_convert_and_unaligned_data_decodes() {
        let tensor = Tensor::from_f32(vec![3], vec![1.0, -2.5, 0.5]).unwrap();
        for dtype in [DType::F16, DType::BF16, DType::F64] {
            let other = tensor.to_float_dtype(dtype).unwrap();
            assert_eq!(other.to_f32().unwrap(), tensor.to_f32().unwrap());
        }
        let mut shifted = vec![0u8];
        shifted.extend_from_slice(tensor.bytes());
        let unaligned = Bytes::from(shifted).slice(1..);
        let view = Tensor::new(DType::F32, vec![3], unaligned).unwrap();
        assert_eq!(&view.to_f32().unwrap()[..], &[1.0, -2.5, 0.5]);
    }

    #[test]
    fn entries_of_any_axis_can_be_picked() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let tensor = Tensor::from_f32(vec![2, 3, 2], values).unwrap();
        let picked = |axis, places: &[usize]| {
            let picked = tensor.pick(axis, places).unwrap();
            (picked.shape().to_vec(), picked.to_f32().unwrap().to_vec())
        };
        assert_eq!(picked(0, &[1]).1, [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(
            picked(1, &[2, 0]),
            (
                vec![2, 2, 2],
                vec![4.0, 5.0, 0.0, 1.0, 10.0, 11.0, 6.0, 7.0]
            )
        );
        assert_eq!(picked(2, &[]), (vec![2, 3, 0], Vec::new()));
        assert!(tensor.pick(1, &[3]).is_none() && tensor.pick(3, &[0]).is_none());
    }

    #[test]
    fn non_finite_values_are_located() {
        let tensor = Tensor::from_f32(vec![3], vec![0.0, f32::NAN, f32::INFINITY]).unwrap();
        assert_eq!(tensor.first_non_finite(), Some(1));
    }
}
