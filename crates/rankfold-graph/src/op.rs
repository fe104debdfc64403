//! The closed set of typed operations.

use serde::{Deserialize, Serialize};

use crate::error::OpError;
use crate::ops::{
    Activation, AdaptiveAvgPool, AdaptiveMaxPool, Attention, AvgPool, BatchNorm, Binary,
    BinaryScalar, Concat, Constant, Conv, ConvTranspose, Dropout, Embedding, Expand, Flatten,
    GroupNorm, LayerNorm, Linear, LocalResponseNorm, MatMul, MaxPool, Mean, Opaque, Pad, Permute,
    Quantize, Reshape, Slice, Softmax, Split, Squeeze, Unsqueeze,
};
use crate::shape::Fact;
use crate::weights::{WeightName, Weights};

/// What a weight is to the op that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The matrix or kernel of a linear map.
    Kernel,
    /// An additive term.
    Bias,
    /// The multiplicative term of a normalisation.
    Scale,
    /// A learned vector or table that is none of the above.
    Table,
    /// A statistic that training updates without a gradient.
    Statistic,
    /// A value that never changes.
    Constant,
}

impl Role {
    /// True for what an optimiser changes.
    pub const fn is_learnable(self) -> bool {
        match self {
            Self::Kernel | Self::Bias | Self::Scale | Self::Table => true,
            Self::Statistic | Self::Constant => false,
        }
    }
}

/// What every op answers.
pub trait Operation {
    /// The weights that the op names, each with its role.
    fn weights(&self) -> Vec<(Role, &WeightName)> {
        Vec::new()
    }

    /// The same names, to be changed.
    fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        Vec::new()
    }

    /// The facts of the outputs, from those of the inputs.
    fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError>;

    /// Multiply-accumulates for one item of a batch; none where shapes leave it open.
    fn macs(&self, _inputs: &[&Fact], _outputs: &[&Fact], _weights: &Weights) -> Option<u64> {
        Some(0)
    }
}

macro_rules! ops {
    ($($(#[$doc:meta])* $variant:ident => $kind:literal,)*) => {
        /// An operation with its attributes.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "op")]
        pub enum Op {
            $($(#[$doc])* #[serde(rename = $kind)] $variant($variant),)*
        }

        impl Op {
            /// The op's kind, as dumps, plans and messages name it.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }

            fn operation(&self) -> &dyn Operation {
                match self { $(Self::$variant(op) => op,)* }
            }

            fn operation_mut(&mut self) -> &mut dyn Operation {
                match self { $(Self::$variant(op) => op,)* }
            }
        }

        $(impl From<$variant> for Op {
            fn from(op: $variant) -> Self {
                Self::$variant(op)
            }
        })*
    };
}

ops! {
    /// Convolution over one or two spatial dimensions.
    Conv => "conv",
    /// Transposed convolution.
    ConvTranspose => "conv_transpose",
    /// `x Wᵀ + b` over the last dimension.
    Linear => "linear",
    /// Batch normalisation.
    BatchNorm => "batch_norm",
    /// Layer normalisation.
    LayerNorm => "layer_norm",
    /// Group normalisation.
    GroupNorm => "group_norm",
    /// Local response normalisation.
    LocalResponseNorm => "local_response_norm",
    /// An elementwise function.
    Activation => "activation",
    /// Max pooling.
    MaxPool => "max_pool",
    /// Average pooling.
    AvgPool => "avg_pool",
    /// Average pooling to a given size.
    AdaptiveAvgPool => "adaptive_avg_pool",
    /// Max pooling to a given size.
    AdaptiveMaxPool => "adaptive_max_pool",
    /// Arithmetic of two values with broadcasting.
    Binary => "binary",
    /// Arithmetic of a value and a number.
    BinaryScalar => "binary_scalar",
    /// Concatenation along an axis.
    Concat => "concat",
    /// Cutting an axis into pieces.
    Split => "split",
    /// A strided range of an axis.
    Slice => "slice",
    /// Merging neighbouring dimensions.
    Flatten => "flatten",
    /// Another shape of the same elements.
    Reshape => "reshape",
    /// Another order of the dimensions.
    Permute => "permute",
    /// Removing dimensions of size one.
    Squeeze => "squeeze",
    /// Adding dimensions of size one.
    Unsqueeze => "unsqueeze",
    /// Repeating dimensions of size one.
    Expand => "expand",
    /// Padding with a constant.
    Pad => "pad",
    /// Rounding to 8 bits and back.
    Quantize => "quantize",
    /// Dropout, which does nothing outside training.
    Dropout => "dropout",
    /// Softmax or its logarithm.
    Softmax => "softmax",
    /// Product of two matrices.
    MatMul => "matmul",
    /// Scaled dot-product attention.
    Attention => "attention",
    /// Mean over axes.
    Mean => "mean",
    /// Table look-up.
    Embedding => "embedding",
    /// A weight as a value.
    Constant => "constant",
    /// An operation that is carried through and not understood.
    Opaque => "opaque",
}

impl Op {
    /// The weights that the op names, each with its role.
    pub fn weights(&self) -> Vec<(Role, &WeightName)> {
        self.operation().weights()
    }

    /// The names of the weights, to be changed.
    pub fn weights_mut(&mut self) -> Vec<&mut WeightName> {
        self.operation_mut().weights_mut()
    }

    /// The facts of the outputs, from those of the inputs.
    pub fn infer(&self, inputs: &[&Fact], weights: &Weights) -> Result<Vec<Fact>, OpError> {
        self.operation().infer(inputs, weights)
    }

    /// Multiply-accumulates for one item of a batch; none where shapes leave it open.
    pub fn macs(&self, inputs: &[&Fact], outputs: &[&Fact], weights: &Weights) -> Option<u64> {
        self.operation().macs(inputs, outputs, weights)
    }
}
