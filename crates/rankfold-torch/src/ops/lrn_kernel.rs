//! Local response normalisation of f32 values on the CPU in one pass over memory.
//!
//! libtorch has no kernel of its own for it: it pads, pools in three dimensions and takes powers, a
//! pass over memory each.

use std::num::NonZeroUsize;

/// How neighbouring channels lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channels {
    /// Side by side.
    Together,
    /// Each in a plane of its own.
    Apart,
}

/// The window and the formula's constants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lrn {
    /// Channels before and after that count.
    pub(crate) before: usize,
    pub(crate) after: usize,
    /// alpha / size.
    pub(crate) factor: f32,
    pub(crate) k: f32,
    pub(crate) power: Power,
}

/// `s^−beta` for the exponents that need no logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// beta = 1/2.
    Half,
    /// beta = 3/4.
    ThreeQuarters,
    /// beta = 1.
    One,
}

impl Power {
    pub(crate) fn of(beta: f64) -> Option<Self> {
        match beta {
            0.5 => Some(Self::Half),
            0.75 => Some(Self::ThreeQuarters),
            1.0 => Some(Self::One),
            _ => None,
        }
    }

    #[inline(always)]
    fn divide(self, x: f32, s: f32) -> f32 {
        match self {
            Self::Half => x / s.sqrt(),
            Self::ThreeQuarters => x / (s.sqrt() * s.sqrt().sqrt()),
            Self::One => x / s,
        }
    }
}

/// Pixels of which a block of planes is worked on, so that the block stays in cache.
const PIXELS: usize = 512;

/// Values below which another thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 18;

impl Lrn {
    /// Writes the normalised values of `images` × `channels` × `pixels` values to `output`.
    pub(crate) fn run(
        &self,
        input: &[f32],
        output: &mut [f32],
        layout: Channels,
        channels: usize,
        pixels: usize,
        threads: NonZeroUsize,
    ) {
        let image = channels * pixels;
        if image == 0 {
            return;
        }
        // A piece is a pixel's channels, or an image's planes.
        let piece = match layout {
            Channels::Together => channels,
            Channels::Apart => image,
        };
        let pieces = input.len() / piece;
        let useful = (input.len() / WORTH_A_THREAD)
            .clamp(1, threads.get())
            .min(pieces);
        let share = pieces.div_ceil(useful.max(1)) * piece;
        let work = |input: &[f32], output: &mut [f32]| match layout {
            Channels::Together => self.rows(input, output, channels),
            Channels::Apart => self.planes(input, output, channels, pixels),
        };
        if useful <= 1 {
            return work(input, output);
        }
        std::thread::scope(|scope| {
            for (input, output) in input.chunks(share).zip(output.chunks_mut(share)) {
                scope.spawn(move || work(input, output));
            }
        });
    }

    fn rows(&self, input: &[f32], output: &mut [f32], channels: usize) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.rows_avx2(input, output, channels) };
        }
        self.rows_anywhere(input, output, channels);
    }

    fn planes(&self, input: &[f32], output: &mut [f32], channels: usize, pixels: usize) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.planes_avx2(input, output, channels, pixels) };
        }
        self.planes_anywhere(input, output, channels, pixels);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn rows_avx2(&self, input: &[f32], output: &mut [f32], channels: usize) {
        self.rows_anywhere(input, output, channels);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn planes_avx2(
        &self,
        input: &[f32],
        output: &mut [f32],
        channels: usize,
        pixels: usize,
    ) {
        self.planes_anywhere(input, output, channels, pixels);
    }

    #[inline(always)]
    fn rows_anywhere(&self, input: &[f32], output: &mut [f32], channels: usize) {
        let mut squares = vec![0f32; channels + self.before + self.after];
        let mut sums = vec![0f32; channels];
        for (x, y) in input
            .chunks_exact(channels)
            .zip(output.chunks_exact_mut(channels))
        {
            for (square, &x) in squares[self.before..].iter_mut().zip(x) {
                *square = x * x;
            }
            sums.copy_from_slice(&squares[..channels]);
            for shift in 1..=self.before + self.after {
                for (sum, &square) in sums.iter_mut().zip(&squares[shift..]) {
                    *sum += square;
                }
            }
            self.divide(x, &sums, y);
        }
    }

    #[inline(always)]
    fn planes_anywhere(&self, input: &[f32], output: &mut [f32], channels: usize, pixels: usize) {
        let mut sums = [0f32; PIXELS];
        let image = channels * pixels;
        for (input, output) in input
            .chunks_exact(image)
            .zip(output.chunks_exact_mut(image))
        {
            for start in (0..pixels).step_by(PIXELS) {
                let count = PIXELS.min(pixels - start);
                let sums = &mut sums[..count];
                for channel in 0..channels {
                    let first = channel.saturating_sub(self.before);
                    let last = (channel + self.after).min(channels - 1);
                    sums.fill(0.0);
                    for other in first..=last {
                        let x = &input[other * pixels + start..][..count];
                        for (sum, &x) in sums.iter_mut().zip(x) {
                            *sum += x * x;
                        }
                    }
                    let place = channel * pixels + start;
                    self.divide(
                        &input[place..][..count],
                        sums,
                        &mut output[place..][..count],
                    );
                }
            }
        }
    }

    #[inline(always)]
    fn divide(&self, x: &[f32], sums: &[f32], y: &mut [f32]) {
        // A constant exponent for the optimiser in each loop.
        match self.power {
            Power::Half => self.divide_by(Power::Half, x, sums, y),
            Power::ThreeQuarters => self.divide_by(Power::ThreeQuarters, x, sums, y),
            Power::One => self.divide_by(Power::One, x, sums, y),
        }
    }

    #[inline(always)]
    fn divide_by(&self, power: Power, x: &[f32], sums: &[f32], y: &mut [f32]) {
        for ((y, &x), &sum) in y.iter_mut().zip(x).zip(sums) {
            *y = power.divide(x, self.k + self.factor * sum);
        }
    }
}
