//! Random views of training images.

use crate::rng::Rng;
use crate::source::Window;
use crate::{DataError, Dataset};

/// How a training image is cropped at random.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Crop {
    /// Not at all.
    #[default]
    None,
    /// Black borders of so many pixels are added, then a window of the image's size is cut.
    Padded(usize),
    /// A window with a random share of the area and a random aspect is resized to the input's size
    /// (antialiased bilinear), as torchvision's `RandomResizedCrop` does.
    Resized {
        /// Smallest and largest share of the area.
        scale: (f32, f32),
        /// Smallest and largest width over height.
        ratio: (f32, f32),
    },
}

/// Augmentation of training images; every draw depends on seed, epoch and the image's number alone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Augment {
    /// Mirror left and right with probability one half.
    pub flip: bool,
    /// Crop at random.
    pub crop: Crop,
    /// The most that is added to all numbers of an image or taken away, for images in [0, 1].
    pub brightness: f32,
    /// Smallest and largest factor by which what lies apart from a channel's mean is multiplied; none for
    /// images as they are. Neither this nor brightness clips.
    pub contrast: Option<(f32, f32)>,
}

/// What is done to the light of one image: v becomes contrast · (v − mean) + mean + brightness.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Light {
    brightness: f32,
    contrast: f32,
}

impl Light {
    /// Changes a channel whose numbers were divided by `std`.
    pub(crate) fn fall_on(self, channel: &mut [f32], std: f32) {
        let sum: f64 = channel.iter().map(|&v| f64::from(v)).sum();
        let mean = (sum / channel.len().max(1) as f64) as f32;
        let moved = mean + self.brightness / std;
        for value in channel {
            *value = self.contrast * (*value - mean) + moved;
        }
    }
}

impl Augment {
    /// Images as they are.
    pub const NONE: Self = Self {
        flip: false,
        crop: Crop::None,
        brightness: 0.0,
        contrast: None,
    };
    /// The light of TensorFlow's tutorial on CIFAR-10, on which Çallı (2017) trained: up to 63 of 255
    /// brighter or darker, a contrast from a fifth to nine fifths.
    pub const LIGHT: (f32, (f32, f32)) = (63.0 / 255.0, (0.2, 1.8));
    /// What CIFAR networks are trained with: flip, and crop after padding by 4.
    pub const CIFAR: Self = Self {
        flip: true,
        crop: Crop::Padded(4),
        ..Self::NONE
    };
    /// What ImageNet networks are trained with: flip, and a resized crop of 8 % or more.
    pub const IMAGENET: Self = Self {
        flip: true,
        crop: Crop::Resized {
            scale: (0.08, 1.0),
            ratio: (0.75, 4.0 / 3.0),
        },
        ..Self::NONE
    };

    /// What networks for inputs of this kind are trained with.
    pub fn usual(dataset: &Dataset) -> Self {
        match dataset.inputs().first().map(|(_, shape)| &shape[..]) {
            Some(&[3, height, width]) if dataset.is_images() => match height.max(width) {
                0..=64 => Self::CIFAR,
                _ => Self::IMAGENET,
            },
            _ => Self::NONE,
        }
    }

    /// Whether images stay as they are.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    pub(crate) fn check(&self) -> Result<(), DataError> {
        let ordered = |(low, high): (f32, f32), most: f32| 0.0 < low && low <= high && high <= most;
        let wrong = |what, found, expected| {
            Err(DataError::Augment {
                what,
                found,
                expected,
            })
        };
        match self.crop {
            Crop::Padded(pad) if pad > 1 << 14 => {
                wrong("padding", pad.to_string(), "at most 16384 pixels")
            }
            _ if !(0.0..=1.0).contains(&self.brightness) => {
                wrong("brightness", self.brightness.to_string(), "from 0 to 1")
            }
            _ if self.contrast.is_some_and(|range| !ordered(range, 100.0)) => wrong(
                "contrast",
                format!("{:?}", self.contrast),
                "0 < smallest ≤ largest ≤ 100",
            ),
            Crop::Resized { scale, .. } if !ordered(scale, 1.0) => {
                wrong("scale", format!("{scale:?}"), "0 < smallest ≤ largest ≤ 1")
            }
            Crop::Resized { ratio, .. } if !ordered(ratio, 100.0) => wrong(
                "ratio",
                format!("{ratio:?}"),
                "0 < smallest ≤ largest ≤ 100",
            ),
            _ => Ok(()),
        }
    }

    pub(crate) fn draw_flip(&self, rng: &mut Rng) -> bool {
        self.flip && rng.chance(0.5)
    }

    /// None where the light stays as it is; nothing is drawn then.
    pub(crate) fn draw_light(&self, rng: &mut Rng) -> Option<Light> {
        if self.brightness == 0.0 && self.contrast.is_none() {
            return None;
        }
        Some(Light {
            brightness: match self.brightness {
                0.0 => 0.0,
                most => rng.range(-most, most),
            },
            contrast: self
                .contrast
                .map_or(1.0, |(low, high)| rng.range(low, high)),
        })
    }
}

/// A window of the size of `whole`, moved by at most `pad` each way.
pub(crate) fn shifted(rng: &mut Rng, whole: Window, pad: usize) -> Window {
    let mut shift = || rng.below(2 * pad as u64 + 1) as isize - pad as isize;
    Window {
        top: whole.top + shift(),
        left: whole.left + shift(),
        ..whole
    }
}

/// A window inside `whole` with a share of its area in `scale` and an aspect in `ratio`; after ten
/// draws that do not fit, the central one of the nearest aspect.
pub(crate) fn patch(rng: &mut Rng, whole: Window, scale: (f32, f32), ratio: (f32, f32)) -> Window {
    let (height, width) = (whole.height, whole.width);
    let area = (height * width) as f32;
    for _ in 0..10 {
        let target = area * rng.range(scale.0, scale.1);
        let aspect = rng.range(ratio.0.ln(), ratio.1.ln()).exp();
        let w = (target * aspect).sqrt().round() as usize;
        let h = (target / aspect).sqrt().round() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = rng.below((height - h) as u64 + 1) as isize;
            let left = rng.below((width - w) as u64 + 1) as isize;
            return Window {
                top,
                left,
                height: h,
                width: w,
            };
        }
    }
    let aspect = (width as f32 / height as f32).clamp(ratio.0, ratio.1);
    let w = ((height as f32 * aspect).round() as usize).clamp(1, width);
    let h = ((w as f32 / aspect).round() as usize).clamp(1, height);
    let (top, left) = ((height - h) as isize / 2, (width - w) as isize / 2);
    Window {
        top,
        left,
        height: h,
        width: w,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Window = Window {
        top: 0,
        left: 0,
        height: 60,
        width: 80,
    };

    #[test]
    fn padded_crops_reach_every_shift_and_no_further() {
        let mut rng = Rng::keyed(&[1]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2_000 {
            let window = shifted(&mut rng, WHOLE, 4);
            assert_eq!((window.height, window.width), (60, 80));
            seen.insert((window.top, window.left));
        }
        assert_eq!(seen.len(), 81);
        assert_eq!(
            (seen.first(), seen.last()),
            (Some(&(-4, -4)), Some(&(4, 4)))
        );
    }

    #[test]
    fn patches_keep_within_area_aspect_and_image() {
        let (scale, ratio) = ((0.08, 1.0), (0.75, 4.0 / 3.0));
        let mut rng = Rng::keyed(&[2]);
        let mut areas = Vec::new();
        for _ in 0..5_000 {
            let p = patch(&mut rng, WHOLE, scale, ratio);
            assert!(p.top >= 0 && p.top as usize + p.height <= 60);
            assert!(p.left >= 0 && p.left as usize + p.width <= 80);
            let aspect = p.width as f32 / p.height as f32;
            assert!((0.7..=1.43).contains(&aspect), "{p:?}");
            areas.push((p.width * p.height) as f32 / 4800.0);
        }
        let (low, high) = areas
            .iter()
            .fold((1f32, 0f32), |(l, h), &a| (l.min(a), h.max(a)));
        assert!((0.07..0.12).contains(&low) && high > 0.9, "{low} {high}");
    }

    #[test]
    fn an_image_of_extreme_aspect_gets_its_centre() {
        let long = Window {
            top: 0,
            left: 0,
            height: 1,
            width: 1000,
        };
        let p = patch(&mut Rng::keyed(&[3]), long, (0.9, 1.0), (0.75, 4.0 / 3.0));
        assert_eq!((p.height, p.width), (1, 1));
        assert!((498..=501).contains(&p.left));
    }

    #[test]
    fn parameters_that_cannot_be_are_refused() {
        for (scale, ratio) in [
            ((0.0, 1.0), (1.0, 1.0)),
            ((0.5, 0.2), (1.0, 1.0)),
            ((0.5, 1.5), (1.0, 1.0)),
            ((0.5, 1.0), (2.0, 1.0)),
            ((f32::NAN, 1.0), (1.0, 1.0)),
        ] {
            let augment = Augment {
                crop: Crop::Resized { scale, ratio },
                ..Augment::NONE
            };
            assert!(
                matches!(augment.check(), Err(DataError::Augment { .. })),
                "{augment:?}"
            );
        }
        for (brightness, contrast) in [(-0.1, None), (f32::NAN, None), (0.0, Some((0.0, 1.0)))] {
            let augment = Augment {
                brightness,
                contrast,
                ..Augment::NONE
            };
            assert!(augment.check().is_err(), "{augment:?}");
        }
        for augment in [Augment::NONE, Augment::CIFAR, Augment::IMAGENET] {
            augment.check().expect("usable");
        }
    }

    #[test]
    fn light_moves_the_mean_and_stretches_what_lies_apart_from_it() {
        let light = Light {
            brightness: 0.25,
            contrast: 2.0,
        };
        // In [0, 1] 0.2, 0.4 and 0.6, less a mean of 0.1, divided by 0.5.
        let mut channel = [0.2f32, 0.6, 1.0];
        light.fall_on(&mut channel, 0.5);
        for (got, expected) in channel.iter().zip([0.3f32, 1.1, 1.9]) {
            assert!((got - expected).abs() < 1e-6, "{channel:?}");
        }
    }
}
