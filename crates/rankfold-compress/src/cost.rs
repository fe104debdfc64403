//! What the factors of a layer will cost, from their outline alone.

use serde::{Deserialize, Serialize};

use crate::layer::{Geometry, Layer};

/// One of the smaller layers that a layer becomes: the shape of its kernel and how it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageOutline {
    /// Shape of the kernel: out, in / groups, rows, columns.
    pub kernel: [usize; 4],
    /// How it moves.
    pub geometry: Geometry,
}

/// Kernel parameters and multiply-accumulates of a layer or of what it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerCost {
    /// Numbers in the kernels; biases stay what they were.
    pub parameters: u64,
    /// Multiply-accumulates for one item; zero where the input size is open.
    pub macs: u64,
}

/// The cost of a chain of stages that starts from the layer's input.
pub(crate) fn chain_cost(layer: &Layer, stages: &[StageOutline]) -> LayerCost {
    let mut cost = LayerCost::default();
    let mut size = layer.input;
    for stage in stages {
        let numbers: u64 = stage.kernel.iter().map(|&n| n as u64).product();
        cost.parameters += numbers;
        size = size.map(|size| {
            stage
                .geometry
                .output(size, [stage.kernel[2], stage.kernel[3]])
        });
        if let Some([rows, columns]) = size {
            cost.macs += numbers * (rows * columns) as u64;
        }
    }
    cost
}

/// The cost of the layer as it is.
pub fn kept_cost(layer: &Layer) -> LayerCost {
    let own = StageOutline {
        kernel: layer.shape,
        geometry: layer.geometry,
    };
    chain_cost(layer, &[own])
}
