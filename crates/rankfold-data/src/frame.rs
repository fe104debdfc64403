//! Bringing images of any size to the network's: antialiased bilinear resizing and cropping.
//!
//! The result is torchvision's (`Resize`, `CenterCrop` on Pillow images) to within one step of 255,
//! and equal in all but a few values in a thousand; what a JPEG decoder does differently comes on
//! top, by two steps in the test's photograph.

use fast_image_resize as fir;

use fir::images::{TypedImage, TypedImageRef};
use fir::pixels::{U8, U8x3};
use fir::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use crate::DataError;
use crate::source::{ImageSize, ImageSource, Pixels, Window};

/// Longest side after resizing, beyond which an image is refused rather than blown up.
const LONGEST: usize = 1 << 16;

/// Why an image cannot be brought to size.
#[derive(Debug)]
pub(crate) enum FrameError {
    TooLong { height: usize, width: usize },
    Resize(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for FrameError {
    fn from(error: E) -> Self {
        Self::Resize(error.into())
    }
}

impl FrameError {
    /// The error with the file of image `index` of `images`.
    pub(crate) fn of(self, images: &dyn ImageSource, index: usize) -> DataError {
        let path = images
            .path(index)
            .map(std::path::Path::to_owned)
            .unwrap_or_default();
        match self {
            Self::TooLong { height, width } => DataError::ImageSize {
                path,
                height: height as u64,
                width: width as u64,
            },
            Self::Resize(source) => DataError::Resize { path, source },
        }
    }
}

/// Buffers for one thread's resizing.
#[derive(Default)]
pub(crate) struct Framer {
    resizer: Resizer,
    cut: Vec<u8>,
    narrow: Vec<u8>,
    out: Vec<u8>,
}

/// The window of `crop` × `crop` in the middle of `height` × `width`, halves rounded to even as
/// Python does.
fn centre(height: usize, width: usize, crop: usize) -> Window {
    let middle = |len: usize| ((len - crop) as f64 / 2.0).round_ties_even() as isize;
    Window {
        top: middle(height),
        left: middle(width),
        height: crop,
        width: crop,
    }
}

impl Framer {
    /// `pixels` with its shorter side resized, and the central window.
    pub(crate) fn centred<'a>(
        &'a mut self,
        pixels: &Pixels<'a>,
        size: ImageSize,
    ) -> Result<(Pixels<'a>, Window), FrameError> {
        let (height, width) = (pixels.height, pixels.width);
        let long = |long: usize, short: usize| size.resize() * long / short;
        let (h, w) = if height <= width {
            (size.resize(), long(width, height))
        } else {
            (long(height, width), size.resize())
        };
        if h.max(w) > LONGEST {
            return Err(FrameError::TooLong { height, width });
        }
        let window = centre(h, w, size.crop());
        if (h, w) == (height, width) {
            return Ok((*pixels, window));
        }
        let resized = self.resize(pixels, pixels.whole(), h, w)?;
        Ok((resized, window))
    }

    /// The part of `pixels` in `window`, which lies inside, resized to `height` × `width`.
    pub(crate) fn resize(
        &mut self,
        pixels: &Pixels<'_>,
        window: Window,
        height: usize,
        width: usize,
    ) -> Result<Pixels<'_>, FrameError> {
        let Self {
            resizer,
            cut,
            narrow,
            out,
        } = self;
        let (channels, step) = if pixels.interleaved {
            (1, pixels.channels)
        } else {
            (pixels.channels, 1)
        };
        let passes = match pixels.interleaved {
            true => passes::<U8x3>,
            false => passes::<U8>,
        };

        let source = if window == pixels.whole() {
            pixels.data
        } else {
            cut.clear();
            for plane in pixels
                .data
                .chunks_exact(pixels.height * pixels.width * step)
            {
                let first = window.top as usize * pixels.width + window.left as usize;
                for row in plane[first * step..]
                    .chunks(pixels.width * step)
                    .take(window.height)
                {
                    cut.extend_from_slice(&row[..window.width * step]);
                }
            }
            cut
        };
        out.resize(channels * height * width * step, 0);
        narrow.resize(window.height * width * step, 0);
        let planes = source.chunks_exact(window.height * window.width * step);
        for (from, to) in planes.zip(out.chunks_exact_mut(height * width * step)) {
            let from = (from, [window.height as u32, window.width as u32]);
            passes(resizer, from, narrow, (to, [height as u32, width as u32]))?;
        }
        Ok(Pixels {
            data: out,
            height,
            width,
            ..*pixels
        })
    }
}

/// Brings the pixels `from` to the size of `to`, columns before rows, each rounded to bytes, as Pillow has it
/// where an image keeps its aspect: the crate does it the other way round, which moves one value in five by one.
///
/// The type of pixels is named because the crate's own choice compiles its kernels for all of them, which took
/// two minutes.
fn passes<P: PixelTrait>(
    resizer: &mut Resizer,
    from: (&[u8], [u32; 2]),
    narrow: &mut [u8],
    to: (&mut [u8], [u32; 2]),
) -> Result<(), FrameError> {
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .use_alpha(false);
    let ((from, [old_height, old_width]), (to, [height, width])) = (from, to);
    let source = TypedImageRef::<P>::from_buffer(old_width, old_height, from)?;
    let mut half = TypedImage::<P>::from_buffer(width, old_height, narrow)?;
    resizer.resize_typed(&source, &mut half, &options)?;
    let half = TypedImageRef::<P>::from_buffer(width, old_height, narrow)?;
    let mut whole = TypedImage::<P>::from_buffer(width, height, to)?;
    Ok(resizer.resize_typed(&half, &mut whole, &options)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::SafeTensors;

    use super::*;

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name)
    }

    /// The same resized crop as `tests/fixtures/make.py` takes, from pixels and from planes.
    #[test]
    fn a_resized_crop_equals_torchvisions() {
        let file = std::fs::read(fixture("expected.safetensors")).expect("read");
        let file = SafeTensors::deserialize(&file).expect("safetensors");
        let expected = file.tensor("resized_crop").expect("there").data().to_vec();
        let image = image::open(fixture("images/a/tall.png"))
            .expect("decoded")
            .to_rgb8();
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = image.into_raw();
        let planes: Vec<u8> = (0..3)
            .flat_map(|c| pixels.iter().skip(c).step_by(3).copied())
            .collect();
        let window = Window {
            top: 11,
            left: 5,
            height: 80,
            width: 47,
        };

        let mut framer = Framer::default();
        let mut cut = |data: &[u8], interleaved| {
            let pixels = Pixels {
                data,
                channels: 3,
                height,
                width,
                interleaved,
            };
            framer
                .resize(&pixels, window, 32, 32)
                .expect("resized")
                .data
                .to_vec()
        };
        let (mixed, apart) = (cut(&pixels, true), cut(&planes, false));
        let mut differing = 0;
        for (i, expected) in expected.iter().enumerate() {
            let (a, b) = (mixed[i % 1024 * 3 + i / 1024], apart[i]);
            assert!(
                a.abs_diff(*expected) <= 1 && b.abs_diff(*expected) <= 1,
                "value {i}"
            );
            differing += usize::from(a != *expected) + usize::from(b != *expected);
        }
        assert!(differing <= 60, "{differing} of 6144 values differ");
    }

    #[test]
    fn the_centre_is_rounded_as_python_rounds() {
        let window = |h, w| {
            let c = centre(h, w, 4);
            (c.top, c.left)
        };
        assert_eq!(window(4, 5), (0, 0));
        assert_eq!(window(6, 7), (1, 2));
        assert_eq!(window(9, 11), (2, 4));
    }
}
