//! What a set of labelled images gives to everything above it.

use crate::DataError;

/// The window of an image that is looked at. It may reach beyond the image; pixels there are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) top: isize,
    pub(crate) left: isize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// The 8-bit pixels of one image as they are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixels<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Three channels side by side in every pixel, rather than one plane after the other.
    pub(crate) interleaved: bool,
}

impl Pixels<'_> {
    /// The window that shows the whole image.
    pub(crate) fn whole(&self) -> Window {
        Window {
            top: 0,
            left: 0,
            height: self.height,
            width: self.width,
        }
    }
}

/// Side lengths in pixels to which images are brought before they are batched: the shorter side is resized
/// (antialiased bilinear), then the centre is cropped, as torchvision's `Resize` and `CenterCrop` do.
/// Images that all have one size of their own keep it unless the shorter side is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageSize {
    resize: Option<usize>,
    crop: usize,
}

impl ImageSize {
    /// Shorter side `resize`, centre of `crop` × `crop`, which must fit and is at most 16,384.
    pub fn new(resize: usize, crop: usize) -> Result<Self, DataError> {
        if crop == 0 || crop > resize || resize > 1 << 14 {
            return Err(DataError::Crop { resize, crop });
        }
        Ok(Self {
            resize: Some(resize),
            crop,
        })
    }

    /// The usual size for a network whose input is `crop` × `crop`: the shorter side is 8/7 of it
    /// (256 for 224).
    pub fn for_input(crop: usize) -> Result<Self, DataError> {
        let usual = Self { resize: None, crop };
        Self::new(usual.resize(), crop)?;
        Ok(usual)
    }

    /// The shorter side after resizing.
    pub fn resize(&self) -> usize {
        let usual = || self.crop.saturating_mul(8).div_ceil(7);
        self.resize.unwrap_or_else(usual)
    }

    /// The side of the crop.
    pub fn crop(&self) -> usize {
        self.crop
    }
}

impl Default for ImageSize {
    /// ImageNet's: 256, then 224.
    fn default() -> Self {
        Self {
            resize: None,
            crop: 224,
        }
    }
}

/// Labelled images with random access.
pub(crate) trait ImageSource: Send + Sync {
    /// How many images there are.
    fn len(&self) -> usize;

    /// Channels, height and width of an image after [`ImageSource::size`].
    fn shape(&self) -> [usize; 3];

    /// How stored images are brought to the size that is asked for; none if they have it.
    fn size(&self) -> Option<ImageSize> {
        None
    }

    /// The class of image `index`.
    fn label(&self, index: usize) -> i64;

    /// The stored pixels of image `index`, in `scratch` if they must be made first.
    fn pixels<'a>(
        &'a self,
        index: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Pixels<'a>, DataError>;

    /// The file of image `index`, where each has its own.
    fn path(&self, _index: usize) -> Option<&std::path::Path> {
        None
    }
}

/// Images of one size, brought to another.
pub(crate) struct Framed<S> {
    images: S,
    size: ImageSize,
}

impl<S: ImageSource + 'static> Framed<S> {
    /// `images`, brought to `size` where that states more than the network's input.
    pub(crate) fn boxed(images: S, size: ImageSize) -> Box<dyn ImageSource> {
        match size.resize {
            Some(_) => Box::new(Self { images, size }),
            None => Box::new(images),
        }
    }
}

impl<S: ImageSource> ImageSource for Framed<S> {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn shape(&self) -> [usize; 3] {
        let [channels, ..] = self.images.shape();
        [channels, self.size.crop, self.size.crop]
    }

    fn size(&self) -> Option<ImageSize> {
        Some(self.size)
    }

    fn label(&self, index: usize) -> i64 {
        self.images.label(index)
    }

    fn pixels<'a>(
        &'a self,
        index: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Pixels<'a>, DataError> {
        self.images.pixels(index, scratch)
    }
}
