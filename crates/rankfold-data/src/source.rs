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
    /// Channels side by side in every pixel, rather than one plane after the other.
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

/// Side lengths in pixels to which images of an image folder are brought before they are batched:
/// the shorter side is resized (antialiased bilinear), then the centre is cropped, as torchvision's
/// `Resize` and `CenterCrop` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageSize {
    resize: usize,
    crop: usize,
}

impl ImageSize {
    /// Shorter side `resize`, centre of `crop` × `crop`, which must fit and is at most 16,384.
    pub fn new(resize: usize, crop: usize) -> Result<Self, DataError> {
        if crop == 0 || crop > resize || resize > 1 << 14 {
            return Err(DataError::Crop { resize, crop });
        }
        Ok(Self { resize, crop })
    }

    /// The usual size for a network whose input is `crop` × `crop`: the shorter side is 8/7 of it
    /// (256 for 224).
    pub fn for_input(crop: usize) -> Result<Self, DataError> {
        Self::new((crop.saturating_mul(8)).div_ceil(7), crop)
    }

    /// The shorter side after resizing.
    pub fn resize(&self) -> usize {
        self.resize
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
            resize: 256,
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

    /// How stored images, which differ in size, are brought to one; none if they already have it.
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
