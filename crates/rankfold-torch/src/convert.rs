//! Tensors of the graph as tensors of libtorch and back.

use rankfold_graph as graph;
use rankfold_graph::DType;
use tch::{Kind, Tensor};

use crate::error::{At, Result, TorchError};

/// libtorch's name of an element type.
pub(crate) const fn kind_of(dtype: DType) -> Kind {
    match dtype {
        DType::F64 => Kind::Double,
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::I64 => Kind::Int64,
        DType::I32 => Kind::Int,
        DType::I16 => Kind::Int16,
        DType::I8 => Kind::Int8,
        DType::U8 => Kind::Uint8,
        DType::Bool => Kind::Bool,
    }
}

/// The graph's name of an element type.
pub fn dtype_of(kind: Kind) -> Result<DType> {
    Ok(match kind {
        Kind::Double => DType::F64,
        Kind::Float => DType::F32,
        Kind::Half => DType::F16,
        Kind::BFloat16 => DType::BF16,
        Kind::Int64 => DType::I64,
        Kind::Int => DType::I32,
        Kind::Int16 => DType::I16,
        Kind::Int8 => DType::I8,
        Kind::Uint8 => DType::U8,
        Kind::Bool => DType::Bool,
        other => {
            return Err(TorchError::Kind {
                kind: format!("{other:?}"),
            });
        }
    })
}

/// `value` as a scalar that a tensor of `kind` takes: what no number of that type reaches is infinite.
pub(crate) fn scalar_of(value: f64, kind: Kind) -> f64 {
    let largest = match kind {
        Kind::Half => 65_504.0,
        // Eight bits of mantissa in place of the 24 of f32.
        Kind::BFloat16 => (2.0 - 2f64.powi(-7)) * 2f64.powi(127),
        Kind::Float => f64::from(f32::MAX),
        _ => return value,
    };
    if value.abs() > largest {
        f64::INFINITY.copysign(value)
    } else {
        value
    }
}

pub(crate) fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&n| n as i64).collect()
}

/// A tensor on the CPU with a copy of the data.
pub fn to_torch(tensor: &graph::Tensor) -> Result<Tensor> {
    let shape = sizes(tensor.shape());
    if tensor.is_empty() {
        return Tensor::f_zeros(shape, (kind_of(tensor.dtype()), tch::Device::Cpu))
            .at("making a tensor");
    }
    Tensor::f_from_data_size(tensor.bytes(), &shape, kind_of(tensor.dtype())).at("making a tensor")
}

/// A tensor on the CPU over the data themselves, where they are aligned, and over a copy elsewhere.
///
/// # Safety
/// The bytes of `tensor` must outlive the result and all that shares its storage, and nothing may
/// write to it.
pub(crate) unsafe fn borrow_torch(tensor: &graph::Tensor) -> Result<Tensor> {
    let bytes = tensor.bytes();
    let aligned = bytes.as_ptr().align_offset(tensor.dtype().size()) == 0;
    if !aligned || tensor.is_empty() {
        return to_torch(tensor);
    }
    let shape = sizes(tensor.shape());
    let kind = kind_of(tensor.dtype());
    // SAFETY: the pointer is valid for the shape's elements, which the graph's tensor has checked, and
    // aligned; its lifetime is the caller's duty.
    unsafe { Tensor::f_from_blob(bytes.as_ptr(), &shape, &[], kind, tch::Device::Cpu) }
        .at("mapping a tensor")
}

/// A copy of a tensor's elements in row-major order.
pub fn from_torch(tensor: &Tensor) -> Result<graph::Tensor> {
    let step = "reading a tensor";
    let dtype = dtype_of(tensor.f_kind().at(step)?)?;
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let plain = tensor
        .f_detach()
        .at(step)?
        .f_to(tch::Device::Cpu)
        .at(step)?;
    let plain = plain.f_contiguous().at(step)?;
    let count = plain.numel();
    let mut data = vec![0u8; count * dtype.size()];
    if count > 0 {
        plain.f_copy_data_u8(&mut data, count).at(step)?;
    }
    graph::Tensor::new(dtype, shape, data.into()).map_err(|source| TorchError::Tensor {
        name: String::new(),
        source,
    })
}

/// A copy of a tensor's elements as f32.
pub(crate) fn to_vec_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let step = "reading a tensor";
    let plain = tensor
        .f_to_kind(Kind::Float)
        .at(step)?
        .f_to(tch::Device::Cpu)
        .at(step)?;
    let plain = plain.f_contiguous().at(step)?;
    let mut values = vec![0f32; plain.numel()];
    let count = values.len();
    if count > 0 {
        plain.f_copy_data(&mut values, count).at(step)?;
    }
    Ok(values)
}

/// A copy of a tensor's elements as f64.
pub(crate) fn to_vec_f64(tensor: &Tensor) -> Result<Vec<f64>> {
    let step = "reading a tensor";
    let plain = tensor
        .f_to_kind(Kind::Double)
        .at(step)?
        .f_to(tch::Device::Cpu)
        .at(step)?;
    let plain = plain.f_contiguous().at(step)?;
    let mut values = vec![0f64; plain.numel()];
    let count = values.len();
    if count > 0 {
        plain.f_copy_data(&mut values, count).at(step)?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_way_there_and_back() {
        let source =
            graph::Tensor::from_f32(vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        for dtype in [
            DType::F64,
            DType::F32,
            DType::F16,
            DType::BF16,
            DType::I64,
            DType::I32,
            DType::I16,
            DType::I8,
            DType::U8,
            DType::Bool,
        ] {
            let there = to_torch(&source).unwrap().to_kind(kind_of(dtype));
            let back = from_torch(&there).unwrap();
            assert_eq!((back.dtype(), back.shape()), (dtype, &[2, 3][..]));
            let again = to_torch(&back).unwrap();
            assert_eq!(again.kind(), kind_of(dtype));
            assert!(again.equal(&there), "{dtype}");
        }
    }

    #[test]
    fn strided_tensors_are_read_in_row_major_order() {
        let tensor = Tensor::arange(6, (Kind::Float, tch::Device::Cpu))
            .reshape([2, 3])
            .tr();
        let back = from_torch(&tensor).unwrap();
        assert_eq!(back.shape(), [3, 2]);
        assert_eq!(&back.to_f32().unwrap()[..], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }

    #[test]
    fn unaligned_data_are_copied_and_empty_ones_work() {
        let source = graph::Tensor::from_f32(vec![2], vec![1.5, -2.0]).unwrap();
        let mut shifted = vec![0u8];
        shifted.extend_from_slice(source.bytes());
        let bytes = bytes::Bytes::from(shifted).slice(1..);
        let unaligned = graph::Tensor::new(DType::F32, vec![2], bytes).unwrap();
        // SAFETY: `unaligned` outlives the tensor.
        let tensor = unsafe { borrow_torch(&unaligned) }.unwrap();
        assert_eq!(to_vec_f32(&tensor).unwrap(), [1.5, -2.0]);
        let empty = graph::Tensor::from_f32(vec![0, 3], vec![]).unwrap();
        assert_eq!(to_torch(&empty).unwrap().size(), [0, 3]);
        assert!(from_torch(&to_torch(&empty).unwrap()).unwrap().is_empty());
    }
}
