//! Products with a matrix, attention, look-ups.

use rankfold_graph::ops::{Attention, Embedding, Linear, MatMul};
use rankfold_graph::{Tensor, WeightName};

use super::{Arg, Step};
use crate::pt2::import::Import;
use crate::pt2::schema::FileNode;
use crate::strided::transposed;

impl Import<'_> {
    pub(super) fn linear(&self, node: &FileNode) -> Option<Step> {
        let weight = self.weight_of(node, "weight")?.0;
        let bias = self.optional(node, "bias")?;
        let op = Linear { weight, bias };
        Some(Step::new(op, [self.value(node, "input")?]))
    }

    /// `bias + x · matrix`.
    pub(super) fn addmm(&self, node: &FileNode) -> Option<Step> {
        let plain = node.number_or("beta", 1.0)? == 1.0 && node.number_or("alpha", 1.0)? == 1.0;
        let (bias, vector) = self.weight_of(node, "self")?;
        let x = node.tensor("mat1")?;
        let (weight, new) = self.matrix(node.tensor("mat2")?)?;
        let is_vector = vector.shape().len() == 1;
        let bias = Some(bias);
        (plain && is_vector && self.weight(x).is_none())
            .then(|| Step::new(Linear { weight, bias }, [Arg::named(x)]).with(new))
    }

    /// The weight of the linear layer that multiplies by the constant matrix `name`, and its tensor
    /// where the archive has it only the other way round.
    fn matrix(&self, name: &str) -> Option<(WeightName, Vec<(WeightName, Tensor)>)> {
        if let Some((weight, _)) = self.transposed(name) {
            return Some((weight, Vec::new()));
        }
        let (name, tensor) = self.weight(name)?;
        let weight: WeightName = format!("{name}.transposed").into();
        Some((weight.clone(), vec![(weight, transposed(tensor)?)]))
    }

    pub(super) fn matmul(&self, node: &FileNode, a: &str, b: &str) -> Option<Step> {
        let (a, b) = (node.tensor(a)?, node.tensor(b)?);
        let is_value = self.weight(a).is_none() && self.transposed(a).is_none();
        if is_value && let Some((weight, new)) = self.matrix(b) {
            return Some(Step::new(Linear { weight, bias: None }, [Arg::named(a)]).with(new));
        }
        // Vectors would change the number of dimensions.
        let ranks_fit = [a, b].iter().all(|n| self.rank(n).is_some_and(|r| r >= 2));
        ranks_fit.then(|| Step::new(MatMul {}, [Arg::named(a), Arg::named(b)]))
    }

    pub(super) fn attention(&self, node: &FileNode) -> Option<Step> {
        if node.number_or("dropout_p", 0.0)? != 0.0 || node.flag_or("enable_gqa", false)? {
            return None;
        }
        let op = Attention {
            causal: node.flag_or("is_causal", false)?,
            scale: match node.has("scale") {
                false => None,
                true => Some(node.number("scale")?),
            },
        };
        let mut inputs = vec![
            self.value(node, "query")?,
            self.value(node, "key")?,
            self.value(node, "value")?,
        ];
        if node.has("attn_mask") {
            inputs.push(self.value(node, "attn_mask")?);
        }
        Some(Step::new(op, inputs))
    }

    pub(super) fn embedding(&self, node: &FileNode) -> Option<Step> {
        let plain =
            !node.flag_or("scale_grad_by_freq", false)? && !node.flag_or("sparse", false)?;
        let weight = self.weight_of(node, "weight")?.0;
        plain.then(|| {
            Some(Step::new(
                Embedding { weight },
                [self.value(node, "indices")?],
            ))
        })?
    }
}
