//! The functions and classes that a checkpoint may name, as what they mean to a reader.

use rankfold_graph::DType;

/// A type of element as PyTorch names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    /// One that tensors here can have.
    Known(DType),
    /// One that they cannot, by its name.
    Unknown(&'static str),
    /// Bytes without a type; the tensor says which.
    Untyped,
}

/// What a global stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    /// `OrderedDict` and its like: an ordered dictionary.
    Dict,
    /// A storage class or a dtype.
    Element(Element),
    /// `_rebuild_tensor`, `_rebuild_tensor_v2`: storage, offset, size, strides.
    RebuildTensor,
    /// `_rebuild_tensor_v3`: the same with the type apart.
    RebuildTyped,
    /// `_rebuild_parameter`: the first argument.
    First,
    /// `_rebuild_from_type_v2`: a function and its arguments.
    RebuildFromType,
    /// A module of an `.ot` archive: attributes.
    Module,
    /// A value that checkpoints have beside their tensors and that is never looked at.
    Inert,
}

/// The meaning of `module.name`, or none where nothing that tensors need is called so.
pub(crate) fn lookup(module: &str, name: &str, modules_allowed: bool) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict" | "defaultdict" | "Counter") => Global::Dict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTyped,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
        | ("torch", "Size") => Global::First,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch", "Tensor" | "device")
        | ("torch._tensor", "Tensor")
        | ("torch.nn.parameter", "Parameter" | "Buffer")
        | ("argparse", "Namespace")
        | ("_codecs", "encode")
        | ("numpy", "dtype" | "ndarray")
        | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
        | (
            "builtins" | "__builtin__",
            "set" | "frozenset" | "complex" | "bytearray" | "slice" | "range" | "list" | "dict"
            | "int" | "float" | "str" | "bool" | "bytes" | "tuple",
        ) => Global::Inert,
        ("__torch__", "Module") if modules_allowed => Global::Module,
        ("torch" | "torch.storage", name) => Global::Element(element(name)?),
        _ => return None,
    })
}

fn element(name: &str) -> Option<Element> {
    use Element::{Known, Unknown, Untyped};
    Some(match name {
        "DoubleStorage" | "float64" => Known(DType::F64),
        "FloatStorage" | "float32" => Known(DType::F32),
        "HalfStorage" | "float16" => Known(DType::F16),
        "BFloat16Storage" | "bfloat16" => Known(DType::BF16),
        "LongStorage" | "int64" => Known(DType::I64),
        "IntStorage" | "int32" => Known(DType::I32),
        "ShortStorage" | "int16" => Known(DType::I16),
        "CharStorage" | "int8" => Known(DType::I8),
        "ByteStorage" | "uint8" => Known(DType::U8),
        "BoolStorage" | "bool" => Known(DType::Bool),
        "UntypedStorage" => Untyped,
        "ComplexFloatStorage" | "complex64" => Unknown("complex64"),
        "ComplexDoubleStorage" | "complex128" => Unknown("complex128"),
        "complex32" => Unknown("complex32"),
        "QInt8Storage" | "qint8" => Unknown("qint8"),
        "QUInt8Storage" | "quint8" => Unknown("quint8"),
        "QInt32Storage" | "qint32" => Unknown("qint32"),
        "uint16" => Unknown("uint16"),
        "uint32" => Unknown("uint32"),
        "uint64" => Unknown("uint64"),
        "float8_e4m3fn" => Unknown("float8_e4m3fn"),
        "float8_e5m2" => Unknown("float8_e5m2"),
        _ => return None,
    })
}
