//! Convolutions with weights packed beforehand, merged with what follows them.
//!
//! Plain convolutions bring their weights into oneDNN's own order again at every call, and an
//! activation or an addition after them is another pass over memory. libtorch's compiled models avoid
//! both by functions that it exports with a C interface; these are looked up at run time, so that a
//! libtorch without them still works.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use libloading::os::unix::Library;
use rankfold_graph::ops::{Activation, Conv};
use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::{Call, Fault, OpResult, sizes, symmetric};

/// What is done with a convolution's result before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Epilogue {
    /// The second input is added.
    pub(crate) add: bool,
    /// Then this is applied.
    pub(crate) activation: Option<Activation>,
}

/// True where packed convolutions are to be had.
pub(crate) fn available() -> bool {
    functions().is_some()
}

/// True where a convolution can be run packed.
pub(crate) fn fits(conv: &Conv, kernel: &[usize]) -> bool {
    kernel.len() == 4 && !kernel.contains(&0) && symmetric(&conv.padding).is_some()
}

/// True where an activation can be merged into a convolution.
pub(crate) fn merges(activation: &Activation, after_add: bool) -> bool {
    match activation {
        Activation::Relu => true,
        _ => !after_add && Unary::of(activation).is_some(),
    }
}

/// A dense kernel in oneDNN's order, chosen for inputs of the given shape where it is known.
pub(crate) fn pack(
    conv: &Conv,
    kernel: &Tensor,
    input: Option<Vec<i64>>,
) -> Result<Tensor, TchError> {
    let padding = symmetric(&conv.padding).unwrap_or_default();
    let (stride, dilation) = (sizes(&conv.stride), sizes(&conv.dilation));
    kernel.f_to_mkldnn(None)?.f_mkldnn_reorder_conv2d_weight(
        padding,
        stride,
        dilation,
        conv.groups as i64,
        input.as_deref(),
    )
}

type Handle = *mut C_tensor;

type Pointwise = unsafe extern "C" fn(
    input: Handle,
    kernel: Handle,
    bias: *mut Handle,
    padding: *const i64,
    padding_len: i64,
    stride: *const i64,
    stride_len: i64,
    dilation: *const i64,
    dilation_len: i64,
    groups: i64,
    activation: *const c_char,
    scalars: *const *const f64,
    scalars_len: i64,
    algorithm: *const *const c_char,
    output: *mut Handle,
) -> i32;

type PointwiseBinary = unsafe extern "C" fn(
    first: Handle,
    second: Handle,
    kernel: Handle,
    bias: *mut Handle,
    padding: *const i64,
    padding_len: i64,
    stride: *const i64,
    stride_len: i64,
    dilation: *const i64,
    dilation_len: i64,
    groups: i64,
    binary: *const c_char,
    alpha: *mut f64,
    activation: *const *const c_char,
    scalars: *const *const f64,
    scalars_len: i64,
    algorithm: *const *const c_char,
    output: *mut Handle,
) -> i32;

struct Functions {
    alone: Pointwise,
    /// Takes input and summand.
    adding: PointwiseBinary,
    /// Takes summand and input; the result is written over the summand.
    adding_in_place: PointwiseBinary,
}

fn functions() -> Option<&'static Functions> {
    static FUNCTIONS: OnceLock<Option<Functions>> = OnceLock::new();
    FUNCTIONS
        .get_or_init(|| {
            let library = Library::this();
            // SAFETY: the types are those of libtorch's shim_cpu.h, and libtorch stays loaded.
            unsafe {
                Some(Functions {
                    alone: *library
                        .get(b"aoti_torch_cpu_mkldnn__convolution_pointwise\0")
                        .ok()?,
                    adding: *library
                        .get(b"aoti_torch_cpu_mkldnn__convolution_pointwise_binary\0")
                        .ok()?,
                    adding_in_place: *library
                        .get(b"aoti_torch_cpu_mkldnn__convolution_pointwise_binary_\0")
                        .ok()?,
                })
            }
        })
        .as_ref()
}

/// An activation as oneDNN names it.
struct Unary {
    name: &'static CStr,
    scalars: Vec<f64>,
}

impl Unary {
    fn of(activation: &Activation) -> Option<Self> {
        let (name, scalars) = match *activation {
            Activation::Relu => (c"relu", vec![]),
            Activation::Relu6 => (c"hardtanh", vec![0.0, 6.0]),
            Activation::Clamp { min, max } => (c"hardtanh", vec![min, max]),
            Activation::LeakyRelu { slope } => (c"leaky_relu", vec![slope]),
            Activation::Silu => (c"swish", vec![]),
            Activation::HardSwish => (c"hardswish", vec![]),
            Activation::Sigmoid => (c"sigmoid", vec![]),
            Activation::Tanh => (c"tanh", vec![]),
            _ => return None,
        };
        Some(Self { name, scalars })
    }
}

/// The output of a convolution whose kernel is packed, with what follows it.
pub(crate) fn run(conv: &Conv, epilogue: Epilogue, call: &Call<'_>) -> OpResult {
    let functions = functions().ok_or(Fault::Unsupported("packed convolutions are missing"))?;
    let (input, kernel, bias) = (call.input(0)?, call.weight(0)?, call.weights.get(1));
    let padding = symmetric(&conv.padding).ok_or(Fault::Unsupported("uneven padding"))?;
    check_size(conv, input, kernel, &padding)?;
    let (stride, dilation) = (sizes(&conv.stride), sizes(&conv.dilation));
    let unary = match &epilogue.activation {
        None => None,
        Some(activation) => {
            Some(Unary::of(activation).ok_or(Fault::Unsupported("the activation is not merged"))?)
        }
    };
    let handle = |tensor: &Tensor| tensor.as_ptr().cast_mut();
    let mut bias = bias.map(handle);
    let bias = bias
        .as_mut()
        .map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let groups = conv.groups as i64;
    let length = padding.len() as i64;
    let mut output: Handle = std::ptr::null_mut();
    // SAFETY: all handles are of live tensors, arrays have the lengths given with them, and the
    // functions catch every exception; they change no handle but `output`, and the summand's values
    // only where the executor has found that nobody needs them any more.
    let code = unsafe {
        if epilogue.add {
            let summand = call.input(1)?;
            let (function, first, second) = match call.reuse {
                Some(1) => (functions.adding_in_place, summand, input),
                _ => (functions.adding, input, summand),
            };
            let name = unary
                .as_ref()
                .map_or(std::ptr::null(), |unary| unary.name.as_ptr());
            let unary = if name.is_null() {
                std::ptr::null()
            } else {
                std::ptr::from_ref(&name)
            };
            function(
                handle(first),
                handle(second),
                handle(kernel),
                bias,
                padding.as_ptr(),
                length,
                stride.as_ptr(),
                length,
                dilation.as_ptr(),
                length,
                groups,
                c"add".as_ptr(),
                std::ptr::null_mut(),
                unary,
                std::ptr::null(),
                0,
                std::ptr::null(),
                &mut output,
            )
        } else {
            let name = unary.as_ref().map_or(c"none", |unary| unary.name);
            let scalars: &[f64] = unary.as_ref().map_or(&[], |unary| &unary.scalars);
            let pointers: Vec<*const f64> = scalars.iter().map(std::ptr::from_ref).collect();
            (functions.alone)(
                handle(input),
                handle(kernel),
                bias,
                padding.as_ptr(),
                length,
                stride.as_ptr(),
                length,
                dilation.as_ptr(),
                length,
                groups,
                name.as_ptr(),
                pointers.as_ptr(),
                pointers.len() as i64,
                std::ptr::null(),
                &mut output,
            )
        }
    };
    if code != 0 || output.is_null() {
        return Err(Fault::Unsupported("oneDNN refused the convolution"));
    }
    // SAFETY: the function has made a new tensor on the heap, as libtorch's own interface for tch does.
    Ok(unsafe { Tensor::from_ptr(output) })
}

/// Refuses what oneDNN would refuse, before it writes to standard error.
fn check_size(conv: &Conv, input: &Tensor, kernel: &Tensor, padding: &[i64]) -> Result<(), Fault> {
    let (size, kernel) = (input.size(), kernel.size());
    if size.len() != 4 || size.contains(&0) {
        return Err(Fault::Unsupported(
            "expected images [batch, channels, height, width]",
        ));
    }
    for i in 0..2 {
        let extent = conv.dilation[i] as i64 * (kernel[i + 2] - 1) + 1;
        if size[i + 2] + 2 * padding[i] < extent {
            return Err(Fault::Unsupported(
                "the window is larger than its padded input",
            ));
        }
    }
    Ok(())
}
