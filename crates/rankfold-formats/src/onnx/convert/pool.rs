//! Pooling.

use rankfold_graph::ops::{AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool};

use super::Step;
use super::conv::positive;
use crate::onnx::proto::NodeProto;
use crate::onnx::read::Import;

impl Import<'_> {
    fn kernel(&self, node: &NodeProto) -> Option<Vec<usize>> {
        let kernel = node.ints("kernel_shape")?;
        positive(kernel, kernel.len()).filter(|k| matches!(k.len(), 1 | 2))
    }

    pub(super) fn max_pool(&self, node: &NodeProto) -> Option<Step> {
        let kernel = self.kernel(node)?;
        let window = self.window(node, &kernel)?;
        let op = MaxPool {
            kernel,
            stride: window.stride,
            padding: window.padding,
            dilation: window.dilation,
            ceil: node.int_or("ceil_mode", 0) != 0,
        };
        Some(Step::new(op, [self.input(node, 0)?]))
    }

    pub(super) fn average_pool(&self, node: &NodeProto) -> Option<Step> {
        let kernel = self.kernel(node)?;
        let window = self.window(node, &kernel)?;
        if window.dilation.iter().any(|&d| d != 1) {
            return None;
        }
        let op = AvgPool {
            kernel,
            stride: window.stride,
            padding: window.padding,
            ceil: node.int_or("ceil_mode", 0) != 0,
            count_include_pad: node.int_or("count_include_pad", 0) != 0,
        };
        Some(Step::new(op, [self.input(node, 0)?]))
    }

    pub(super) fn global_pool(&self, node: &NodeProto) -> Option<Step> {
        let rank = self.rank(node.arg(0)?)?;
        let output = vec![1; rank.checked_sub(2)?];
        let input = [self.input(node, 0)?];
        Some(match node.op_type() {
            "GlobalAveragePool" => Step::new(AdaptiveAvgPool { output }, input),
            _ => Step::new(AdaptiveMaxPool { output }, input),
        })
    }
}
