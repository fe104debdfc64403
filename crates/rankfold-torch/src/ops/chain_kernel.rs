//! A pointwise, a depthwise and a pointwise convolution of f32 images in one pass over memory.
//!
//! Channels lie together. A few rows at a time are taken through all three stages, so that what passes
//! between them never leaves the cache; rows of the first stage that the next rows need too stay in a
//! ring. Channels in the middle are padded with zeros to whole vectors. Where a max pool follows whose
//! windows do not overlap, the rows that it takes stay in the cache too.

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Channels in the middle, and columns of packed weights, come in groups of so many.
pub(crate) const LANES: usize = 16;

/// Columns of a panel of packed weights, at most.
const PANEL: usize = 3 * LANES;

/// Floats of the first stage that are kept at a time: they should stay in the second-level cache.
const KEPT: usize = 48 * 1024;

/// `channels` up to whole vectors.
pub(crate) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// The widths of the panels that `columns`, a multiple of [`LANES`], are cut into.
fn panels(columns: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = columns - first;
        let width = match left {
            0 => return None,
            // Two panels of two vectors are better than one of three and one of one.
            64 => 2 * LANES,
            left => left.min(PANEL),
        };
        first += width;
        Some((first - width, width))
    })
}

/// A matrix of `rows` × `columns` cut into panels, one after the other, each row by row.
pub(crate) fn packed(rows: usize, columns: usize, at: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut packed = Vec::with_capacity(rows * padded(columns));
    for (first, width) in panels(padded(columns)) {
        for row in 0..rows {
            let column = |column| {
                if column < columns {
                    at(row, column)
                } else {
                    0.0
                }
            };
            packed.extend((first..first + width).map(column));
        }
    }
    packed
}

/// Values below and above the bounds become the bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Bounds {
    pub(crate) const NONE: Self = Self {
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
    };
}

/// Sizes of one image, and how the window moves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) inputs: usize,
    pub(crate) middle: usize,
    pub(crate) outputs: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) out_rows: usize,
    pub(crate) out_columns: usize,
    pub(crate) window: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Zeros before the first row and column.
    pub(crate) before: [usize; 2],
    /// Zeros after the last column.
    pub(crate) after: usize,
    /// Rows and columns of the windows of which the largest value is kept; `[1, 1]` without a pool.
    pub(crate) pool: [usize; 2],
}

impl Sizes {
    /// Channels in the middle with those that fill the last vector.
    fn wide(&self) -> usize {
        padded(self.middle)
    }

    pub(crate) fn pools(&self) -> bool {
        self.pool != [1, 1]
    }

    /// Rows and columns that are written; what does not fill a window of the pool is left out.
    pub(crate) fn written(&self) -> [usize; 2] {
        [
            self.out_rows / self.pool[0],
            self.out_columns / self.pool[1],
        ]
    }
}

/// Weights and biases, packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// Inputs × middle, in panels. What belongs to the middle is padded to whole vectors but for the
    /// rows of the last stage.
    pub(crate) first: &'a [f32],
    pub(crate) first_bias: &'a [f32],
    pub(crate) first_bounds: Bounds,
    /// Taps × middle.
    pub(crate) taps: &'a [f32],
    pub(crate) taps_bias: &'a [f32],
    pub(crate) taps_bounds: Bounds,
    /// Middle × outputs, in panels.
    pub(crate) last: &'a [f32],
    pub(crate) last_bias: &'a [f32],
    pub(crate) last_bounds: Bounds,
}

/// Where the images lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Images {
    pub(crate) input: *const f32,
    /// What is added to the result before its bounds; may be the output itself, or null, which it is
    /// with a pool.
    pub(crate) summand: *const f32,
    pub(crate) output: *mut f32,
}

/// Memory that a thread keeps from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    ring: Vec<f32>,
    filtered: Vec<f32>,
    unpooled: Vec<f32>,
}

/// True where this processor has the instructions that the kernel is made for.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The rows that are written from `top` to below `bottom` of one image.
///
/// # Safety
///
/// The kernel is [`available`]; weights have the sizes that `sizes` says; the pointers are to whole
/// images of these sizes, of which nobody else writes to the output's rows meanwhile.
pub(crate) unsafe fn run(
    sizes: &Sizes,
    weights: &Weights<'_>,
    image: Images,
    (top, bottom): (usize, usize),
    scratch: &mut Scratch,
) {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: as the caller promises, and the processor has what each is compiled for.
        unsafe {
            match is_x86_feature_detected!("avx512f") {
                true => x86::run_avx512(sizes, weights, image, (top, bottom), scratch),
                false => x86::run_avx2(sizes, weights, image, (top, bottom), scratch),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (sizes, weights, image, top, bottom, scratch);
        unreachable!("the kernel is not available here");
    }
}
