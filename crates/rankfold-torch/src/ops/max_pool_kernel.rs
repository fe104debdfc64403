//! The largest values of windows of f32 images whose channels lie together, in one pass over memory.
//!
//! libtorch's own kernel writes down where each was found too, eight bytes for every four.

use std::ops::Range;

use super::team;

/// Sizes of an image, and how the window moves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) channels: usize,
    pub(crate) size: [usize; 2],
    pub(crate) outputs: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Rows above and columns before the image, in which there is nothing.
    pub(crate) before: [usize; 2],
}

/// Channels that are worked on together.
const LANES: usize = 16;

/// Values of the input below which another thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 16;

impl Windows {
    /// The largest values of all windows of whole images.
    pub(crate) fn run(&self, input: &[f32], output: &mut [f32]) {
        let threads = crate::device::threads().min(input.len() / WORTH_A_THREAD);
        let image = self.size[0] * self.size[1] * self.channels;
        let row = self.outputs[1] * self.channels;
        let to = Rows(output.as_mut_ptr());
        team::share(output.len() / row, threads.max(1), |item| {
            let from = &input[item / self.outputs[0] * image..][..image];
            // SAFETY: the output has as many rows as there are items, and each writes its own.
            let to = unsafe { std::slice::from_raw_parts_mut(to.at(item * row), row) };
            self.row(from, item % self.outputs[0], to);
        });
    }

    /// The largest values of a row of windows of one image.
    pub(crate) fn row(&self, image: &[f32], y: usize, to: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has it.
                return unsafe { self.row_avx512(image, y, to) };
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has it.
                return unsafe { self.row_avx2(image, y, to) };
            }
        }
        self.row_of(image, y, to);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn row_avx512(&self, image: &[f32], y: usize, to: &mut [f32]) {
        self.row_of(image, y, to);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn row_avx2(&self, image: &[f32], y: usize, to: &mut [f32]) {
        self.row_of(image, y, to);
    }

    #[inline(always)]
    fn row_of(&self, image: &[f32], y: usize, to: &mut [f32]) {
        let rows = self.inside(0, y);
        for (x, to) in to.chunks_exact_mut(self.channels).enumerate() {
            let columns = self.inside(1, x);
            let mut groups = to.chunks_exact_mut(LANES);
            let mut channel = 0;
            for to in &mut groups {
                let mut largest = [f32::NEG_INFINITY; LANES];
                for pixel in self.pixels((y, x), &rows, &columns) {
                    let from = &image[pixel + channel..][..LANES];
                    for (largest, &value) in largest.iter_mut().zip(from) {
                        *largest = larger(*largest, value);
                    }
                }
                to.copy_from_slice(&largest);
                channel += LANES;
            }
            for to in groups.into_remainder() {
                *to = f32::NEG_INFINITY;
                for pixel in self.pixels((y, x), &rows, &columns) {
                    *to = larger(*to, image[pixel + channel]);
                }
                channel += 1;
            }
        }
    }

    /// The places in the window, along one side, that lie inside the image.
    #[inline(always)]
    fn inside(&self, side: usize, at: usize) -> Range<usize> {
        let (start, step) = (at * self.stride[side], self.dilation[side]);
        let first = self.before[side].saturating_sub(start).div_ceil(step);
        let end = (self.size[side] + self.before[side]).saturating_sub(start);
        first..end.div_ceil(step).min(self.kernel[side])
    }

    /// Where in the image those pixels of a window begin.
    #[inline(always)]
    fn pixels(
        &self,
        (y, x): (usize, usize),
        rows: &Range<usize>,
        columns: &Range<usize>,
    ) -> impl Iterator<Item = usize> {
        let place = |side: usize, at: usize, i: usize| {
            at * self.stride[side] + i * self.dilation[side] - self.before[side]
        };
        let columns = columns.clone();
        rows.clone().flat_map(move |i| {
            let row = place(0, y, i) * self.size[1];
            let columns = columns.clone();
            columns.map(move |j| (row + place(1, x, j)) * self.channels)
        })
    }
}

/// What is no number is the largest.
#[inline(always)]
fn larger(one: f32, other: f32) -> f32 {
    match other > one || other.is_nan() {
        true => other,
        false => one,
    }
}

/// Rows that are written side by side.
struct Rows(*mut f32);

// SAFETY: every row is written by one thread.
unsafe impl Sync for Rows {}

impl Rows {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}
