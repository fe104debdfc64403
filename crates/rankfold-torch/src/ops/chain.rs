//! A 1×1, a depthwise and a 1×1 convolution as one step: what three-way CP makes of a convolution,
//! and what MobileNets are built of; a max pool after them is part of it.

use std::cell::RefCell;

use rankfold_graph::Weights as GraphWeights;
use rankfold_graph::ops::{Activation, Conv, MaxPool};
use tch::{Kind, Tensor};

use super::chain_kernel::{self as kernel, Bounds, Images, Scratch, Sizes, Weights};
use super::packed::Epilogue;
use super::{Call, Fault, OpResult, team};

/// The three convolutions and what follows each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chain {
    pub(crate) first: Conv,
    pub(crate) first_activation: Option<Activation>,
    pub(crate) middle: Conv,
    pub(crate) middle_activation: Option<Activation>,
    pub(crate) last: Conv,
    pub(crate) epilogue: Epilogue,
    /// Rows and columns of the depthwise kernel.
    pub(crate) window: [usize; 2],
    pub(crate) outputs: usize,
    /// Rows and columns of the windows of a max pool at the end; `[1, 1]` without.
    pub(crate) pool: [usize; 2],
}

/// True where chains can be run as one step.
pub(crate) fn available() -> bool {
    kernel::available()
}

/// True where an activation may stand behind a stage.
pub(crate) fn takes(activation: &Activation) -> bool {
    bounds(Some(activation)).is_some()
}

fn bounds(activation: Option<&Activation>) -> Option<Bounds> {
    let between = |low: f64, high: f64| Bounds {
        low: low as f32,
        high: high as f32,
    };
    Some(match activation {
        None => Bounds::NONE,
        Some(Activation::Relu) => between(0.0, f64::INFINITY),
        Some(Activation::Relu6) => between(0.0, 6.0),
        Some(Activation::Clamp { min, max }) if min <= max => between(*min, *max),
        Some(_) => return None,
    })
}

/// True where a convolution with this kernel can be the first or the last stage.
pub(crate) fn is_pointwise(conv: &Conv, kernel: &[usize]) -> bool {
    matches!(kernel, [_, _, 1, 1])
        && conv.groups == 1
        && conv.stride == [1, 1]
        && conv.padding.iter().all(|&by| by == [0, 0])
}

/// True where a convolution with this kernel can be the stage between them.
pub(crate) fn is_depthwise(conv: &Conv, kernel: &[usize]) -> bool {
    matches!(*kernel, [channels, 1, _, _] if conv.groups == channels)
}

/// The window of a max pool that can end a chain: one whose windows neither overlap nor leave the image.
pub(crate) fn pooled(pool: &MaxPool) -> Option<[usize; 2]> {
    let plain = pool.kernel == pool.stride
        && pool.dilation == [1, 1]
        && pool.padding.iter().all(|&by| by == [0, 0])
        && !pool.ceil;
    plain.then(|| pool.kernel[..].try_into().ok())?
}

/// Numbers packed for the kernel: the panels of the first stage, its bias, the taps, their bias, the
/// panels of the last stage, its bias. None where a weight is missing or of another shape.
pub(crate) fn pack(chain: &Chain, weights: &GraphWeights) -> Option<Vec<Tensor>> {
    let read = |name: &str| {
        let tensor = weights.get(name)?;
        Some((tensor.shape().to_vec(), tensor.to_f32().ok()?))
    };
    let bias = |conv: &Conv, channels: usize| {
        let mut values = match &conv.bias {
            Some(name) => read(name)?.1.to_vec(),
            None => Vec::new(),
        };
        values.resize(kernel::padded(channels), 0.0);
        Some(values)
    };
    let (shape, first) = read(&chain.first.weight)?;
    let [middle, inputs] = shape[..2].try_into().ok()?;
    let (shape, taps) = read(&chain.middle.weight)?;
    let count = shape[2] * shape[3];
    let (shape, last) = read(&chain.last.weight)?;
    let outputs = shape[0];
    let wide = kernel::padded(middle);
    let panels_first = kernel::packed(inputs, middle, |s, r| first[r * inputs + s]);
    let mut rows = vec![0f32; count * wide];
    for (channel, own) in taps.chunks_exact(count).enumerate() {
        for (tap, &value) in own.iter().enumerate() {
            rows[tap * wide + channel] = value;
        }
    }
    let panels_last = kernel::packed(middle, outputs, |r, t| last[t * middle + r]);
    let packed = [
        panels_first,
        bias(&chain.first, middle)?,
        rows,
        bias(&chain.middle, middle)?,
        panels_last,
        bias(&chain.last, outputs)?,
    ];
    Some(
        packed
            .iter()
            .map(|values| Tensor::from_slice(values))
            .collect(),
    )
}

/// Multiply-accumulates below which another thread costs more than it saves.
const WORTH_A_THREAD: usize = 100_000;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The output of the three convolutions.
pub(crate) fn run(chain: &Chain, call: &Call<'_>) -> OpResult {
    let input = call.input(0)?;
    if input.dim() != 4 || input.f_kind()? != Kind::Float {
        return Err(Fault::Unsupported(
            "expected images [batch, channels, height, width]",
        ));
    }
    let input = crate::executor::channels_last(input)?;
    let sizes = sizes(chain, call, &input)?;
    let images = input.size()[0] as usize;
    let [rows, columns] = sizes.written();
    let shape = [images, rows, columns, sizes.outputs].map(|n| n as i64);
    let summand = match chain.epilogue.add {
        true => Some(call.input(1)?),
        false => None,
    };
    let expected = [shape[0], shape[3], shape[1], shape[2]];
    if summand.is_some_and(|summand| summand.size() != expected) {
        return Err(Fault::Unsupported("the summand is of another size"));
    }
    let summand = summand.map(crate::executor::channels_last).transpose()?;
    let output = match (&summand, call.reuse) {
        (Some(summand), Some(1)) => summand.shallow_clone(),
        _ => Tensor::f_empty(shape, (Kind::Float, tch::Device::Cpu))?.f_permute([0, 3, 1, 2])?,
    };
    let part = |i: usize| -> Result<&[f32], Fault> {
        let tensor = call.weight(i)?;
        // SAFETY: `pack` made a dense vector of floats, which lives as long as the call.
        Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), tensor.numel()) })
    };
    let within = |activation: &Option<Activation>| {
        bounds(activation.as_ref()).ok_or(Fault::Unsupported("the activation is not merged"))
    };
    let weights = Weights {
        first: part(0)?,
        first_bias: part(1)?,
        first_bounds: within(&chain.first_activation)?,
        taps: part(2)?,
        taps_bias: part(3)?,
        taps_bounds: within(&chain.middle_activation)?,
        last: part(4)?,
        last_bias: part(5)?,
        last_bounds: within(&chain.epilogue.activation)?,
    };
    let pixels = images * sizes.out_rows * sizes.out_columns;
    let macs = pixels * sizes.middle * (sizes.inputs + sizes.outputs);
    let threads = crate::device::threads().min(macs / WORTH_A_THREAD).max(1);
    let bands = match images >= 2 * threads {
        true => 1,
        false => threads.min(rows),
    };
    let places = Places {
        input: input.data_ptr().cast::<f32>().cast_const(),
        summand: summand.as_ref().map_or(std::ptr::null(), |summand| {
            summand.data_ptr().cast::<f32>().cast_const()
        }),
        output: output.data_ptr().cast::<f32>(),
        sizes,
    };
    team::share(images * bands, threads, |item| {
        let (image, band) = (item / bands, item % bands);
        let (top, bottom) = (rows * band / bands, rows * (band + 1) / bands);
        SCRATCH.with_borrow_mut(|scratch| {
            // SAFETY: `available` was asked before the step was made; the weights were packed for
            // these sizes, input and summand have them, and every band is a part of the output that
            // no other item writes.
            unsafe {
                kernel::run(&sizes, &weights, places.of(image), (top, bottom), scratch);
            }
        });
    });
    Ok(output)
}

/// The first image of each tensor.
struct Places {
    input: *const f32,
    summand: *const f32,
    output: *mut f32,
    sizes: Sizes,
}

// SAFETY: the pointers are to tensors that live until all items are done, and items write to parts
// of the output that do not overlap.
unsafe impl Sync for Places {}

impl Places {
    fn of(&self, image: usize) -> Images {
        let sizes = &self.sizes;
        let from = image * sizes.rows * sizes.columns * sizes.inputs;
        let [rows, columns] = sizes.written();
        let to = image * rows * columns * sizes.outputs;
        Images {
            input: self.input.wrapping_add(from),
            summand: match self.summand.is_null() {
                true => self.summand,
                false => self.summand.wrapping_add(to),
            },
            output: self.output.wrapping_add(to),
        }
    }
}

/// The sizes of an image in every stage; an error where input or weights do not fit.
fn sizes(chain: &Chain, call: &Call<'_>, input: &Tensor) -> Result<Sizes, Fault> {
    let size: Vec<usize> = input.size().iter().map(|&n| n as usize).collect();
    let conv = &chain.middle;
    let (first, taps) = (call.weight(0)?.numel(), call.weight(2)?.numel());
    let (middle, outputs) = (conv.groups, chain.outputs);
    let wide = kernel::padded(middle);
    let pair = |values: &[usize]| <[usize; 2]>::try_from(values);
    let (Ok(stride), Ok(dilation), &[rows, columns]) =
        (pair(&conv.stride), pair(&conv.dilation), &conv.padding[..])
    else {
        return Err(Fault::Unsupported("expected two spatial dimensions"));
    };
    let window = chain.window;
    let fits = size[1] * wide == first && window[0] * window[1] * wide == taps;
    let out = |i: usize, padding: [usize; 2]| {
        let extent = dilation[i] * (window[i] - 1) + 1;
        let padded = size[i + 2] + padding[0] + padding[1];
        Some(padded.checked_sub(extent)? / stride[i] + 1)
    };
    let (Some(out_rows), Some(out_columns), true) = (out(0, rows), out(1, columns), fits) else {
        return Err(Fault::Unsupported(
            "the window is larger than its padded input, or the channels differ",
        ));
    };
    if out_rows < chain.pool[0] || out_columns < chain.pool[1] {
        return Err(Fault::Unsupported(
            "the pool's window is larger than its input",
        ));
    }
    Ok(Sizes {
        inputs: size[1],
        middle,
        outputs,
        rows: size[2],
        columns: size[3],
        out_rows,
        out_columns,
        window,
        stride,
        dilation,
        before: [rows[0], columns[0]],
        after: columns[1],
        pool: chain.pool,
    })
}
