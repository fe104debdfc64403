//! How the weights of a network begin, in the words of the frameworks that trained it.

use crate::fill::Fill;

/// How a kernel is drawn; `in` and `out` are the layer's fans as PyTorch counts them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Init {
    /// Normal with variance 2 / out.
    HeOut,
    /// Normal with variance 2 / in.
    HeIn,
    /// Uniform with variance 1 / (3 in), PyTorch's default.
    Torch,
    /// Uniform with variance 1 / in, Caffe's `xavier`.
    Caffe,
    /// Uniform with variance 2 / (in + out).
    Glorot,
    /// Normal with a given deviation.
    Normal(f32),
}

/// How a layer's bias begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bias {
    /// At one value.
    Constant(f32),
    /// Uniform with variance 1 / (3 in), PyTorch's default.
    Torch,
    /// Uniform with variance 1 / length.
    Glorot,
}

/// How the weights of a network are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scheme {
    /// Kernels of convolutions.
    pub(crate) conv: Init,
    /// Biases of convolutions.
    pub(crate) conv_bias: Bias,
    /// Matrices of linear layers.
    pub(crate) linear: Init,
    /// Biases of linear layers.
    pub(crate) linear_bias: Bias,
}

impl Scheme {
    /// What PyTorch's layers do by themselves.
    pub(crate) const TORCH: Self = Self {
        conv: Init::Torch,
        conv_bias: Bias::Torch,
        linear: Init::Torch,
        linear_bias: Bias::Torch,
    };

    /// What the layers of Keras and of TensorFlow do by themselves.
    pub(crate) const KERAS: Self = Self {
        conv: Init::Glorot,
        conv_bias: Bias::Constant(0.0),
        linear: Init::Glorot,
        linear_bias: Bias::Constant(0.0),
    };
}

impl Init {
    pub(crate) fn fill(self, fan_in: usize, fan_out: usize) -> Fill {
        let (fan_in, fan_out) = (fan_in as f32, fan_out as f32);
        match self {
            Self::HeOut => Fill::Normal {
                std: (2.0 / fan_out).sqrt(),
            },
            Self::HeIn => Fill::Normal {
                std: (2.0 / fan_in).sqrt(),
            },
            Self::Torch => Fill::Uniform {
                bound: fan_in.sqrt().recip(),
            },
            Self::Caffe => Fill::Uniform {
                bound: (3.0 / fan_in).sqrt(),
            },
            Self::Glorot => Fill::Uniform {
                bound: (6.0 / (fan_in + fan_out)).sqrt(),
            },
            Self::Normal(std) => Fill::Normal { std },
        }
    }
}

impl Bias {
    pub(crate) fn fill(self, fan_in: usize, len: usize) -> Fill {
        match self {
            Self::Constant(value) => Fill::Constant(value),
            Self::Torch => Init::Torch.fill(fan_in, len),
            Self::Glorot => Init::Glorot.fill(len, len),
        }
    }
}
