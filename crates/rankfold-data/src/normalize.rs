//! From stored bytes to the network's input: window, flip and normalisation in one pass.

use crate::DataError;
use crate::source::{Pixels, Window};

/// Mean and standard deviation per channel of images scaled to [0, 1]: a byte b of channel c
/// becomes (b / 255 − mean\[c\]) / std\[c\].
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalization {
    /// The normalisation by `mean` and `std`, one value per channel or a single one for all.
    pub fn new(mean: impl Into<Vec<f32>>, std: impl Into<Vec<f32>>) -> Result<Self, DataError> {
        let (mean, std) = (mean.into(), std.into());
        let usable = !mean.is_empty()
            && mean.len() == std.len()
            && mean.iter().chain(&std).all(|v| v.is_finite())
            && std.iter().all(|s| *s > 0.0);
        if usable {
            Ok(Self { mean, std })
        } else {
            Err(DataError::Normalization { mean, std })
        }
    }

    /// Scaling to [0, 1] alone.
    pub fn unit() -> Self {
        Self {
            mean: vec![0.0],
            std: vec![1.0],
        }
    }

    /// The means.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviations.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// The values that the 256 bytes of every channel become, computed in f32 in the order that
    /// PyTorch has, so that batches equal torchvision's bit for bit.
    pub(crate) fn tables(&self, channels: usize) -> Result<Vec<Table>, DataError> {
        let found = self.mean.len();
        if found != 1 && found != channels {
            return Err(DataError::Channels {
                expected: channels,
                found,
            });
        }
        let of = |c: usize| {
            let c = if found == 1 { 0 } else { c };
            std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[c]) / self.std[c])
        };
        Ok((0..channels).map(of).collect())
    }
}

pub(crate) type Table = [f32; 256];

/// Writes the window of `pixels` as normalised planes to `out` (channels × height × width). What
/// lies outside the image is black.
pub(crate) fn write(
    pixels: &Pixels<'_>,
    window: Window,
    flip: bool,
    tables: &[Table],
    out: &mut [f32],
) {
    let Window {
        top,
        left,
        height,
        width,
    } = window;
    let inside = |from: isize, n: usize, len: usize| {
        let low = (-from).clamp(0, n as isize) as usize;
        let high = (len as isize - from).clamp(low as isize, n as isize) as usize;
        low..high
    };
    let (rows, columns) = (
        inside(top, height, pixels.height),
        inside(left, width, pixels.width),
    );
    let (plane, step) = if pixels.interleaved {
        (1, pixels.channels)
    } else {
        (pixels.height * pixels.width, 1)
    };
    for (c, (planes, table)) in out.chunks_exact_mut(height * width).zip(tables).enumerate() {
        for (y, to) in planes.chunks_exact_mut(width).enumerate() {
            if !rows.contains(&y) || columns.is_empty() {
                to.fill(table[0]);
                continue;
            }
            let first = (top + y as isize) as usize * pixels.width;
            let first = first + (left + columns.start as isize) as usize;
            let from = &pixels.data[c * plane + first * step..];
            let target = if flip {
                width - columns.end..width - columns.start
            } else {
                columns.clone()
            };
            to[..target.start].fill(table[0]);
            to[target.end..].fill(table[0]);
            let to = &mut to[target];
            let from = &from[..(to.len() - 1) * step + 1];
            match (step, flip) {
                (1, false) => put(to.iter_mut(), from.iter(), table),
                (1, true) => put(to.iter_mut().rev(), from.iter(), table),
                (_, false) => put(to.iter_mut(), from.iter().step_by(step), table),
                (_, true) => put(to.iter_mut().rev(), from.iter().step_by(step), table),
            }
        }
    }
}

fn put<'a>(
    to: impl Iterator<Item = &'a mut f32>,
    from: impl Iterator<Item = &'a u8>,
    table: &Table,
) {
    for (value, byte) in to.zip(from) {
        *value = table[usize::from(*byte)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(
        pixels: &Pixels<'_>,
        window: Window,
        flip: bool,
        normalization: &Normalization,
    ) -> Vec<f32> {
        let mut out = Vec::new();
        for c in 0..pixels.channels {
            for y in 0..window.height as isize {
                for x in 0..window.width as isize {
                    let x = if flip {
                        window.width as isize - 1 - x
                    } else {
                        x
                    };
                    let (y, x) = (y + window.top, x + window.left);
                    let inside = (0..pixels.height as isize).contains(&y)
                        && (0..pixels.width as isize).contains(&x);
                    let at = y * pixels.width as isize + x;
                    let byte = match (inside, pixels.interleaved) {
                        (false, _) => 0,
                        (_, true) => pixels.data[at as usize * pixels.channels + c],
                        (_, false) => pixels.data[c * pixels.height * pixels.width + at as usize],
                    };
                    let scaled = f32::from(byte) / 255.0;
                    out.push((scaled - normalization.mean()[c]) / normalization.std()[c]);
                }
            }
        }
        out
    }

    #[test]
    fn windows_flips_and_layouts_agree_with_the_definition() {
        let normalization = Normalization::new([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]).expect("valid");
        let data: Vec<u8> = (0..3 * 5 * 7).map(|i| (i * 37 % 256) as u8).collect();
        for interleaved in [false, true] {
            let pixels = Pixels {
                data: &data,
                channels: 3,
                height: 5,
                width: 7,
                interleaved,
            };
            let tables = normalization.tables(3).expect("three channels");
            for (top, left) in [
                (0, 0),
                (-2, 3),
                (2, -3),
                (-1, -1),
                (3, 5),
                (-9, 0),
                (0, 9),
                (0, -9),
            ] {
                for (height, width) in [(5, 7), (4, 4), (8, 9)] {
                    for flip in [false, true] {
                        let window = Window {
                            top,
                            left,
                            height,
                            width,
                        };
                        let mut out = vec![f32::NAN; 3 * height * width];
                        write(&pixels, window, flip, &tables, &mut out);
                        let expected = reference(&pixels, window, flip, &normalization);
                        assert_eq!(out, expected, "{window:?} flip {flip} {interleaved}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_cannot_normalise_is_refused() {
        for (mean, std) in [
            (vec![], vec![]),
            (vec![0.5], vec![0.5, 0.5]),
            (vec![0.5], vec![0.0]),
            (vec![f32::NAN], vec![1.0]),
            (vec![0.5], vec![f32::INFINITY]),
        ] {
            let error = Normalization::new(mean, std).expect_err("unusable");
            assert!(matches!(error, DataError::Normalization { .. }));
        }
        let rgb = Normalization::new([0.0; 3], [1.0; 3]).expect("valid");
        let error = rgb.tables(1).expect_err("three for one");
        assert!(matches!(
            error,
            DataError::Channels {
                expected: 1,
                found: 3
            }
        ));
        assert_eq!(
            Normalization::unit().tables(3).expect("one for all").len(),
            3
        );
    }
}
