//! Convolutions.

use rankfold_graph::ops::{Conv, ConvTranspose};

use super::{Step, spread};
use crate::pt2::import::Import;
use crate::pt2::schema::FileNode;

impl Import<'_> {
    /// The kernel's spatial sizes, where there are one or two and the input has a batch.
    fn kernel_sizes(&self, node: &FileNode) -> Option<Vec<usize>> {
        let (_, kernel) = self.weight_of(node, "weight")?;
        let sizes = kernel.shape().get(2..)?.to_vec();
        let batched = self.rank(node.tensor("input")?)? == sizes.len() + 2;
        (batched && matches!(sizes.len(), 1 | 2)).then_some(sizes)
    }

    pub(super) fn conv(&self, node: &FileNode) -> Option<Step> {
        let sizes = self.kernel_sizes(node)?;
        let n = sizes.len();
        let dilation = spread(&node.ints("dilation")?, n, 1)?;
        let stride = spread(&node.ints("stride")?, n, 1)?;
        let padding = match node.text("padding") {
            Some("valid") => vec![[0, 0]; n],
            Some("same") if stride.iter().all(|&s| s == 1) => {
                let both = |(k, d): (&usize, &usize)| {
                    let total = d.checked_mul(k.checked_sub(1)?)?;
                    Some([total / 2, total - total / 2])
                };
                sizes
                    .iter()
                    .zip(&dilation)
                    .map(both)
                    .collect::<Option<_>>()?
            }
            Some(_) => return None,
            None => symmetric(&spread(&node.ints("padding")?, n, 0)?),
        };
        let op = Conv {
            weight: self.weight_of(node, "weight")?.0,
            bias: self.optional(node, "bias")?,
            stride,
            padding,
            dilation,
            groups: usize::try_from(node.int_or("groups", 1)?).ok()?,
        };
        Some(Step::new(op, [self.value(node, "input")?]))
    }

    /// Either kind, as decompositions leave it.
    pub(super) fn convolution(&self, node: &FileNode) -> Option<Step> {
        if node.flag_or("transposed", false)? {
            return self.conv_transpose(node);
        }
        let no_extra = node.ints("output_padding")?.iter().all(|&n| n == 0);
        no_extra.then(|| self.conv(node))?
    }

    pub(super) fn conv_transpose(&self, node: &FileNode) -> Option<Step> {
        let n = self.kernel_sizes(node)?.len();
        let list = |name: &str, default| spread(&node.ints(name)?, n, default);
        let op = ConvTranspose {
            weight: self.weight_of(node, "weight")?.0,
            bias: self.optional(node, "bias")?,
            stride: list("stride", 1)?,
            padding: symmetric(&list("padding", 0)?),
            output_padding: list("output_padding", 0)?,
            dilation: list("dilation", 1)?,
            groups: usize::try_from(node.int_or("groups", 1)?).ok()?,
        };
        Some(Step::new(op, [self.value(node, "input")?]))
    }
}

pub(super) fn symmetric(padding: &[usize]) -> Vec<[usize; 2]> {
    padding.iter().map(|&p| [p, p]).collect()
}
