use serde::{Deserialize, Serialize};

use super::exactly;
use crate::error::OpError;
use crate::op::Operation;
use crate::shape::Fact;
use crate::weights::Weights;

/// An elementwise function without weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "function")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// x where positive, `slope` x elsewhere.
    LeakyRelu {
        /// Factor for negative inputs.
        slope: f64,
    },
    /// x where positive, `alpha` (eˣ − 1) elsewhere.
    Elu {
        /// Factor for negative inputs.
        alpha: f64,
    },
    /// Gaussian error linear unit.
    Gelu {
        /// Use the approximation by tanh.
        tanh: bool,
    },
    /// x · sigmoid(x).
    Silu,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// x · relu6(x + 3) / 6.
    HardSwish,
    /// relu6(x + 3) / 6.
    HardSigmoid,
    /// x · tanh(softplus(x)).
    Mish,
    /// ln(1 + eˣ).
    Softplus,
    /// x kept between two bounds.
    Clamp {
        /// Lower bound.
        min: f64,
        /// Upper bound.
        max: f64,
    },
    /// eˣ.
    Exp,
    /// √x.
    Sqrt,
    /// |x|.
    Abs,
    /// −x.
    Neg,
    /// x to a constant power.
    Pow {
        /// The power.
        exponent: f64,
    },
    /// x.
    Identity,
}

impl Operation for Activation {
    fn infer(&self, inputs: &[&Fact], _: &Weights) -> Result<Vec<Fact>, OpError> {
        let [input] = exactly(inputs)?;
        Ok(vec![input.clone()])
    }
}
