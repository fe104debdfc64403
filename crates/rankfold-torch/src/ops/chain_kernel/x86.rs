//! The stages in registers, for AVX-512 and AVX2.

use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
    _mm256_set1_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps, _mm512_storeu_ps,
};

use super::super::max_pool_kernel::Windows;
use super::{Bounds, Images, KEPT, LANES, Scratch, Sizes, Weights, panels};

#[target_feature(enable = "avx512f")]
pub(super) unsafe fn run_avx512(
    sizes: &Sizes,
    weights: &Weights<'_>,
    image: Images,
    rows: (usize, usize),
    scratch: &mut Scratch,
) {
    // SAFETY: as the caller promises.
    unsafe { Chain::<__m512>::of(sizes, weights, image).run(rows, scratch) }
}

#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2(
    sizes: &Sizes,
    weights: &Weights<'_>,
    image: Images,
    rows: (usize, usize),
    scratch: &mut Scratch,
) {
    // SAFETY: as the caller promises.
    unsafe { Chain::<__m256>::of(sizes, weights, image).run(rows, scratch) }
}

/// A vector register. Every function is inlined into one that is compiled for the instructions.
trait Vector: Copy {
    const WIDTH: usize;
    /// Vectors of a panel that are worked on together, at most.
    const ACROSS: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    /// self · other + sum.
    unsafe fn times_plus(self, other: Self, sum: Self) -> Self;
    unsafe fn within(self, low: Self, high: Self) -> Self;
}

impl Vector for __m512 {
    const WIDTH: usize = 16;
    const ACROSS: usize = 3;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn times_plus(self, other: Self, sum: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, other, sum) }
    }

    #[inline(always)]
    unsafe fn within(self, low: Self, high: Self) -> Self {
        // The second operand is given where one is not a number, so that those come through.
        unsafe { _mm512_min_ps(high, _mm512_max_ps(low, self)) }
    }
}

impl Vector for __m256 {
    const WIDTH: usize = 8;
    const ACROSS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn times_plus(self, other: Self, sum: Self) -> Self {
        unsafe { _mm256_fmadd_ps(self, other, sum) }
    }

    #[inline(always)]
    unsafe fn within(self, low: Self, high: Self) -> Self {
        unsafe { _mm256_min_ps(high, _mm256_max_ps(low, self)) }
    }
}

/// Pixels of a product that are worked on together.
const PIXELS: usize = 8;

/// The places of pixels in the ring, row after row, between the zeros at both sides.
struct InRing {
    ring: *mut f32,
    /// Rows that the ring has.
    rows: usize,
    /// Floats of one.
    stride: usize,
    /// Floats of a pixel.
    middle: usize,
    /// Pixels of a row.
    columns: usize,
    /// Floats of the zeros before a row's first pixel.
    before: usize,
    slot: usize,
    column: usize,
}

impl Iterator for InRing {
    type Item = *mut f32;

    #[inline(always)]
    fn next(&mut self) -> Option<*mut f32> {
        let place = self.slot * self.stride + self.before + self.column * self.middle;
        self.column += 1;
        if self.column == self.columns {
            self.column = 0;
            self.slot += 1;
            if self.slot == self.rows {
                self.slot = 0;
            }
        }
        Some(self.ring.wrapping_add(place))
    }
}

/// A product of pixels × `depth` numbers with packed weights.
struct Product<'a> {
    from: *const f32,
    pixels: usize,
    depth: usize,
    /// From one pixel to the next.
    stride: usize,
    weights: &'a [f32],
    bias: &'a [f32],
    /// Columns that are written: at most as many as the bias has.
    columns: usize,
    /// What is added, pixel after pixel; null for nothing.
    summand: *const f32,
    bounds: Bounds,
}

impl Product<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, mut places: impl Iterator<Item = *mut f32>) {
        let mut pixel = 0;
        while pixel < self.pixels {
            let count = PIXELS.min(self.pixels - pixel);
            let mut to = [std::ptr::null_mut(); PIXELS];
            for to in to.iter_mut().take(count) {
                *to = places.next().unwrap_or(*to);
            }
            for (first, width) in panels(self.bias.len()) {
                let panel = unsafe { self.weights.as_ptr().add(first * self.depth) };
                let mut at = 0;
                while at < width {
                    let across = ((width - at) / V::WIDTH).min(V::ACROSS);
                    let block = Block {
                        pixel,
                        count,
                        column: first + at,
                        weights: unsafe { panel.add(at) },
                        width,
                    };
                    unsafe {
                        match across {
                            3 => self.block::<V, 3>(&block, &to),
                            2 => self.block::<V, 2>(&block, &to),
                            _ => self.block::<V, 1>(&block, &to),
                        }
                    }
                    at += across * V::WIDTH;
                }
            }
            pixel += count;
        }
    }

    #[inline(always)]
    unsafe fn block<V: Vector, const ACROSS: usize>(
        &self,
        block: &Block,
        places: &[*mut f32; PIXELS],
    ) {
        unsafe {
            let bias = self.bias.as_ptr().add(block.column);
            let mut sums = [[V::splat(0.0); ACROSS]; PIXELS];
            for sum in &mut sums {
                for (i, sum) in sum.iter_mut().enumerate() {
                    *sum = V::load(bias.add(i * V::WIDTH));
                }
            }
            // Pixels that are missing in the last block are the last one again.
            let mut from = [self.from; PIXELS];
            for (i, from) in from.iter_mut().enumerate() {
                *from = from.add((block.pixel + i.min(block.count - 1)) * self.stride);
            }
            let mut weights = block.weights;
            for k in 0..self.depth {
                let mut row = [V::splat(0.0); ACROSS];
                for (i, weight) in row.iter_mut().enumerate() {
                    *weight = V::load(weights.add(i * V::WIDTH));
                }
                for (sum, from) in sums.iter_mut().zip(&from) {
                    let value = V::splat(*from.add(k));
                    for (sum, weight) in sum.iter_mut().zip(&row) {
                        *sum = value.times_plus(*weight, *sum);
                    }
                }
                weights = weights.add(block.width);
            }
            let (low, high) = (V::splat(self.bounds.low), V::splat(self.bounds.high));
            for (i, sum) in sums.iter().enumerate().take(block.count) {
                let to = places[i].add(block.column);
                let summand = match self.summand.is_null() {
                    true => self.summand,
                    false => self.summand.add((block.pixel + i) * self.columns),
                };
                for (j, &sum) in sum.iter().enumerate() {
                    let column = block.column + j * V::WIDTH;
                    let to = to.add(j * V::WIDTH);
                    let missing = (column + V::WIDTH).saturating_sub(self.columns);
                    if missing >= V::WIDTH {
                        continue;
                    }
                    let mut sum = sum;
                    if missing > 0 {
                        let mut part = [0f32; LANES];
                        let count = V::WIDTH - missing;
                        if !summand.is_null() {
                            let added = summand.add(column);
                            std::ptr::copy_nonoverlapping(added, part.as_mut_ptr(), count);
                            sum = sum.add(V::load(part.as_ptr()));
                        }
                        sum.within(low, high).store(part.as_mut_ptr());
                        std::ptr::copy_nonoverlapping(part.as_ptr(), to, count);
                        continue;
                    }
                    if !summand.is_null() {
                        sum = sum.add(V::load(summand.add(column)));
                    }
                    sum.within(low, high).store(to);
                }
            }
        }
    }
}

/// The first `count` floats of memory that is kept; what is in them is of no account.
fn room(memory: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if memory.len() < count {
        memory.resize(count, 0.0);
    }
    &mut memory[..count]
}

/// The part of a product that registers hold.
struct Block {
    pixel: usize,
    count: usize,
    column: usize,
    weights: *const f32,
    /// Of the panel.
    width: usize,
}

struct Chain<'a, V> {
    sizes: &'a Sizes,
    weights: &'a Weights<'a>,
    image: Images,
    vector: std::marker::PhantomData<V>,
}

impl<'a, V: Vector> Chain<'a, V> {
    fn of(sizes: &'a Sizes, weights: &'a Weights<'a>, image: Images) -> Self {
        Self {
            sizes,
            weights,
            image,
            vector: std::marker::PhantomData,
        }
    }

    #[inline(always)]
    unsafe fn run(&self, (top, bottom): (usize, usize), scratch: &mut Scratch) {
        let sizes = self.sizes;
        let wide = sizes.wide();
        let pooled = sizes.pool[0];
        let (top, bottom) = (top * pooled, bottom * pooled);
        let stride = (sizes.before[1] + sizes.columns + sizes.after) * wide;
        let reach = sizes.dilation[0] * (sizes.window[0] - 1) + 1;
        // Output rows that are taken through all stages at a time: whole windows of the pool.
        let step = KEPT / (stride * sizes.stride[0]) / pooled * pooled;
        let step = step.clamp(pooled, bottom - top);
        let rows = reach + (step - 1) * sizes.stride[0];
        let ring = room(&mut scratch.ring, rows * stride);
        let filtered = room(&mut scratch.filtered, step * sizes.out_columns * wide);
        let unpooled = match sizes.pools() {
            true => step * sizes.out_columns * sizes.outputs,
            false => 0,
        };
        let unpooled = room(&mut scratch.unpooled, unpooled);
        for row in ring.chunks_exact_mut(stride) {
            row[..sizes.before[1] * wide].fill(0.0);
            row[stride - sizes.after * wide..].fill(0.0);
        }
        let (ring, filtered) = (ring.as_mut_ptr(), filtered.as_mut_ptr());
        // Rows are counted from the first row of zeros above the image.
        let mut known = top * sizes.stride[0];
        let mut row = top;
        while row < bottom {
            let next = (row + step).min(bottom);
            let needed = (next - 1) * sizes.stride[0] + reach;
            unsafe {
                self.first(ring, rows, stride, known.max(row * sizes.stride[0])..needed);
                known = needed;
                for (i, row) in (row..next).enumerate() {
                    let to = filtered.add(i * sizes.out_columns * wide);
                    self.filter(ring, rows, stride, row, to);
                }
                match sizes.pools() {
                    true => {
                        self.last(filtered, row..next, unpooled.as_mut_ptr());
                        self.pool(unpooled, row / pooled..next / pooled);
                    }
                    false => {
                        let start = row * sizes.out_columns * sizes.outputs;
                        self.last(filtered, row..next, self.image.output.add(start));
                    }
                }
            }
            row = next;
        }
    }

    /// The first stage for rows counted from the first row of zeros.
    #[inline(always)]
    unsafe fn first(
        &self,
        ring: *mut f32,
        rows: usize,
        stride: usize,
        wanted: std::ops::Range<usize>,
    ) {
        let sizes = self.sizes;
        let (above, below) = (sizes.before[0], sizes.before[0] + sizes.rows);
        for row in wanted.clone().filter(|row| *row < above || *row >= below) {
            unsafe { std::ptr::write_bytes(ring.add(row % rows * stride), 0, stride) };
        }
        let inside = wanted.start.clamp(above, below)..wanted.end.clamp(above, below);
        if inside.is_empty() {
            return;
        }
        let from = (inside.start - above) * sizes.columns * sizes.inputs;
        let product = Product {
            from: unsafe { self.image.input.add(from) },
            pixels: inside.len() * sizes.columns,
            depth: sizes.inputs,
            stride: sizes.inputs,
            weights: self.weights.first,
            bias: self.weights.first_bias,
            columns: sizes.wide(),
            summand: std::ptr::null(),
            bounds: self.weights.first_bounds,
        };
        let places = InRing {
            ring,
            rows,
            stride,
            middle: sizes.wide(),
            columns: sizes.columns,
            before: sizes.before[1] * sizes.wide(),
            slot: inside.start % rows,
            column: 0,
        };
        unsafe { product.run::<V>(places) }
    }

    /// The second stage for one output row.
    #[inline(always)]
    unsafe fn filter(
        &self,
        ring: *const f32,
        rows: usize,
        stride: usize,
        row: usize,
        to: *mut f32,
    ) {
        let sizes = self.sizes;
        let wide = sizes.wide();
        let (low, high) = unsafe {
            (
                V::splat(self.weights.taps_bounds.low),
                V::splat(self.weights.taps_bounds.high),
            )
        };
        let mut channel = 0;
        while channel < wide {
            let mut column = 0;
            while column < sizes.out_columns {
                let count = PIXELS.min(sizes.out_columns - column);
                unsafe {
                    let bias = V::load(self.weights.taps_bias.as_ptr().add(channel));
                    let mut sums = [bias; PIXELS];
                    let mut offsets = [0; PIXELS];
                    for (i, offset) in offsets.iter_mut().enumerate() {
                        let column = column + i.min(count - 1);
                        *offset = column * sizes.stride[1] * wide;
                    }
                    let mut taps = self.weights.taps.as_ptr().add(channel);
                    for y in 0..sizes.window[0] {
                        let line = (row * sizes.stride[0] + y * sizes.dilation[0]) % rows;
                        let line = ring.add(line * stride + channel);
                        for x in 0..sizes.window[1] {
                            let tap = V::load(taps);
                            taps = taps.add(wide);
                            let line = line.add(x * sizes.dilation[1] * wide);
                            for (sum, &offset) in sums.iter_mut().zip(&offsets) {
                                let value = V::load(line.add(offset));
                                *sum = value.times_plus(tap, *sum);
                            }
                        }
                    }
                    for (i, sum) in sums.iter().enumerate().take(count) {
                        let to = to.add((column + i) * wide + channel);
                        sum.within(low, high).store(to);
                    }
                }
                column += count;
            }
            channel += V::WIDTH;
        }
    }

    /// The third stage for output rows, which go to `to`.
    #[inline(always)]
    unsafe fn last(&self, filtered: *const f32, rows: std::ops::Range<usize>, to: *mut f32) {
        let sizes = self.sizes;
        let summand = match self.image.summand.is_null() {
            true => std::ptr::null(),
            false => {
                let start = rows.start * sizes.out_columns * sizes.outputs;
                unsafe { self.image.summand.add(start) }
            }
        };
        let product = Product {
            from: filtered,
            pixels: rows.len() * sizes.out_columns,
            depth: sizes.middle,
            stride: sizes.wide(),
            weights: self.weights.last,
            bias: self.weights.last_bias,
            columns: sizes.outputs,
            summand,
            bounds: self.weights.last_bounds,
        };
        let pixels = (0..).map(|pixel: usize| to.wrapping_add(pixel * sizes.outputs));
        unsafe { product.run::<V>(pixels) }
    }

    /// The largest values of the pool's windows, for rows that are written.
    #[inline(always)]
    unsafe fn pool(&self, unpooled: &[f32], rows: std::ops::Range<usize>) {
        let sizes = self.sizes;
        let written = [rows.len(), sizes.written()[1]];
        let windows = Windows {
            channels: sizes.outputs,
            size: [rows.len() * sizes.pool[0], sizes.out_columns],
            outputs: written,
            kernel: sizes.pool,
            stride: sizes.pool,
            dilation: [1, 1],
            before: [0, 0],
        };
        let line = written[1] * sizes.outputs;
        let to = self.image.output.wrapping_add(rows.start * line);
        for row in 0..rows.len() {
            let to = unsafe { std::slice::from_raw_parts_mut(to.add(row * line), line) };
            windows.row(unpooled, row, to);
        }
    }
}
