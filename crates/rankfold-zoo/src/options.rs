//! What can be chosen when a network is built.

/// Most classes a network can be built with.
pub(crate) const MAX_CLASSES: usize = 100_000;
/// Largest side of an input image.
pub(crate) const MAX_SIDE: usize = 8192;
/// Largest inner width of a LightLayers convolution.
pub(crate) const MAX_K: usize = 1024;

/// The choices; what is left open takes the network's own value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Width of the last layer.
    pub num_classes: Option<usize>,
    /// Height and width of the input, for networks that are not bound to one size.
    pub input_side: Option<usize>,
    /// Undo ImageNet's normalisation in favour of mean and deviation one half, as torchvision's
    /// pretrained `googlenet` wants it.
    pub transform_input: bool,
    /// Inner width of LightLayers' convolutions.
    pub k: Option<usize>,
    /// The weights to begin with.
    pub weights: InitialWeights,
}

/// The weights a network begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialWeights {
    /// Drawn as the network's authors do, each tensor from the seed and its own name.
    Seeded(u64),
    /// Zeros that take no memory until they are read: for networks that get a checkpoint's weights.
    Zeros,
}

impl Default for InitialWeights {
    fn default() -> Self {
        Self::Seeded(0)
    }
}
