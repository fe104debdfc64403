//! Pooling.

use rankfold_graph::ops::{AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool};

use super::conv::symmetric;
use super::{Step, spread};
use crate::pt2::import::Import;
use crate::pt2::schema::FileNode;

impl Import<'_> {
    /// Spatial dimensions of the input, where they are as the operator's name says and there is a batch.
    fn spatial(&self, node: &FileNode) -> Option<usize> {
        let name = node.aten()?;
        let n = if name.contains("1d") { 1 } else { 2 };
        (self.rank(node.tensor("self")?)? == n + 2).then_some(n)
    }

    /// Window and stride; a stride that is left out is the window.
    fn window(&self, node: &FileNode, n: usize) -> Option<(Vec<usize>, Vec<usize>)> {
        let kernel = spread(&node.ints("kernel_size")?, n, 0)?;
        let stride = match &node.ints("stride")?[..] {
            [] => kernel.clone(),
            given => spread(given, n, 1)?,
        };
        Some((kernel, stride))
    }

    pub(super) fn max_pool(&self, node: &FileNode) -> Option<Step> {
        let n = self.spatial(node)?;
        let (kernel, stride) = self.window(node, n)?;
        let op = MaxPool {
            kernel,
            stride,
            padding: symmetric(&spread(&node.ints("padding")?, n, 0)?),
            dilation: spread(&node.ints("dilation")?, n, 1)?,
            ceil: node.flag_or("ceil_mode", false)?,
        };
        Some(Step::new(op, [self.value(node, "self")?]))
    }

    pub(super) fn avg_pool(&self, node: &FileNode) -> Option<Step> {
        let n = self.spatial(node)?;
        if node.has("divisor_override") {
            return None;
        }
        let (kernel, stride) = self.window(node, n)?;
        let op = AvgPool {
            kernel,
            stride,
            padding: symmetric(&spread(&node.ints("padding")?, n, 0)?),
            ceil: node.flag_or("ceil_mode", false)?,
            count_include_pad: node.flag_or("count_include_pad", true)?,
        };
        Some(Step::new(op, [self.value(node, "self")?]))
    }

    pub(super) fn adaptive_avg_pool(&self, node: &FileNode) -> Option<Step> {
        let output = spread(&node.ints("output_size")?, self.spatial(node)?, 0)?;
        Some(Step::new(
            AdaptiveAvgPool { output },
            [self.value(node, "self")?],
        ))
    }

    pub(super) fn adaptive_max_pool(&self, node: &FileNode) -> Option<Step> {
        let output = spread(&node.ints("output_size")?, self.spatial(node)?, 0)?;
        Some(Step::new(
            AdaptiveMaxPool { output },
            [self.value(node, "self")?],
        ))
    }
}
