//! Convolutions.

use rankfold_graph::ops::{Conv, ConvTranspose};

use super::Step;
use crate::onnx::proto::NodeProto;
use crate::onnx::read::Import;

/// Window attributes of a node, one entry per spatial dimension.
pub(super) struct Window {
    pub(super) stride: Vec<usize>,
    pub(super) padding: Vec<[usize; 2]>,
    pub(super) dilation: Vec<usize>,
}

impl Import<'_> {
    /// The attributes of a window of size `kernel`, with `auto_pad` worked out; none where the
    /// padding depends on sizes that are not known.
    pub(super) fn window(&self, node: &NodeProto, kernel: &[usize]) -> Option<Window> {
        let spatial = kernel.len();
        let list = |name: &str| match node.ints(name) {
            None => Some(vec![1; spatial]),
            Some(values) => positive(values, spatial),
        };
        let (stride, dilation) = (list("strides")?, list("dilations")?);
        let padding = match node.text("auto_pad") {
            "" | "NOTSET" => match node.ints("pads") {
                None => vec![[0, 0]; spatial],
                Some(pads) if pads.len() == 2 * spatial => {
                    let side = |i: usize| usize::try_from(pads[i]).ok();
                    let both = |i| Some([side(i)?, side(i + spatial)?]);
                    (0..spatial).map(both).collect::<Option<_>>()?
                }
                Some(_) => return None,
            },
            "VALID" => vec![[0, 0]; spatial],
            mode @ ("SAME_UPPER" | "SAME_LOWER") => {
                let shape = self.fact(node.arg(0)?)?.shape;
                let size = |i: usize| shape.as_ref()?.get(i + 2)?.fixed();
                let same = |i: usize| {
                    let extent = dilation[i].checked_mul(kernel[i].checked_sub(1)?)?;
                    let total = match (stride[i], size(i)) {
                        (1, _) => extent,
                        (stride, Some(size)) => {
                            let windows = size.div_ceil(stride);
                            (windows.checked_sub(1)? * stride + extent + 1).saturating_sub(size)
                        }
                        (_, None) => return None,
                    };
                    let (less, more) = (total / 2, total - total / 2);
                    Some(if mode == "SAME_UPPER" {
                        [less, more]
                    } else {
                        [more, less]
                    })
                };
                (0..spatial).map(same).collect::<Option<_>>()?
            }
            _ => return None,
        };
        Some(Window {
            stride,
            padding,
            dilation,
        })
    }

    pub(super) fn conv(&self, node: &NodeProto) -> Option<Step> {
        let (weight, kernel) = self.weight(node, 1)?;
        let sizes = kernel
            .shape()
            .get(2..)
            .filter(|s| matches!(s.len(), 1 | 2))?;
        if node
            .ints("kernel_shape")
            .is_some_and(|k| positive(k, sizes.len()).as_deref() != Some(sizes))
        {
            return None;
        }
        let window = self.window(node, sizes)?;
        let mut weights = vec![(weight.clone(), kernel)];
        let bias = match node.arg(2) {
            None => None,
            Some(_) => {
                let (name, tensor) = self.weight(node, 2)?;
                weights.push((name.clone(), tensor));
                Some(name)
            }
        };
        let op = Conv {
            weight,
            bias,
            stride: window.stride,
            padding: window.padding,
            dilation: window.dilation,
            groups: usize::try_from(node.int_or("group", 1)).ok()?,
        };
        Some(Step::new(op, [self.input(node, 0)?]).with(weights))
    }

    pub(super) fn conv_transpose(&self, node: &NodeProto) -> Option<Step> {
        let (weight, kernel) = self.weight(node, 1)?;
        let sizes = kernel
            .shape()
            .get(2..)
            .filter(|s| matches!(s.len(), 1 | 2))?;
        if node.ints("output_shape").is_some() || node.text("auto_pad").starts_with("SAME") {
            return None;
        }
        let window = self.window(node, sizes)?;
        let output_padding = match node.ints("output_padding") {
            None => vec![0; sizes.len()],
            Some(values) if values.len() == sizes.len() => values
                .iter()
                .map(|&v| usize::try_from(v).ok())
                .collect::<Option<_>>()?,
            Some(_) => return None,
        };
        let mut weights = vec![(weight.clone(), kernel)];
        let bias = match node.arg(2) {
            None => None,
            Some(_) => {
                let (name, tensor) = self.weight(node, 2)?;
                weights.push((name.clone(), tensor));
                Some(name)
            }
        };
        let op = ConvTranspose {
            weight,
            bias,
            stride: window.stride,
            padding: window.padding,
            output_padding,
            dilation: window.dilation,
            groups: usize::try_from(node.int_or("group", 1)).ok()?,
        };
        Some(Step::new(op, [self.input(node, 0)?]).with(weights))
    }
}

/// `values` as sizes, where there are `len` and all are at least one.
pub(super) fn positive(values: &[i64], len: usize) -> Option<Vec<usize>> {
    let size = |&v: &i64| usize::try_from(v).ok().filter(|&v| v > 0);
    (values.len() == len).then(|| values.iter().map(size).collect())?
}
