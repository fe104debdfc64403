//! Matrix products.

use rankfold_graph::ops::{Linear, MatMul};
use rankfold_graph::{Tensor, WeightName};

use super::{Arg, Step};
use crate::onnx::proto::NodeProto;
use crate::onnx::read::Import;
use crate::strided::transposed;

/// Tensors this small may be equal by chance.
const SMALL: usize = 16;

impl Import<'_> {
    /// The shape `[in, out]` of a constant matrix that `x · matrix` multiplies by.
    pub(in crate::onnx) fn matrix_shape(&self, name: &str) -> Option<Vec<usize>> {
        if let Some(tensor) = self.constant(name) {
            return (tensor.shape().len() == 2).then(|| tensor.shape().to_vec());
        }
        let producer = &self.nodes()[self.maker(name)?];
        let source = self.constant(producer.arg(0)?)?;
        let swaps = producer.ints("perm").is_none_or(|p| p == [1, 0]);
        match source.shape() {
            &[out, inner] if producer.op_type() == "Transpose" && swaps => Some(vec![inner, out]),
            _ => None,
        }
    }

    /// `x · matrix + bias` as a linear layer, whose weight is the matrix transposed.
    pub(in crate::onnx) fn linear_step(
        &self,
        input: &str,
        matrix: &str,
        bias: Option<&str>,
    ) -> Option<Step> {
        let mut weights = Vec::new();
        let weight: WeightName = if let Some(&source) = self.transposed.get(matrix) {
            weights.push((source.into(), self.constant(source)?.clone()));
            source.into()
        } else {
            let source = self.constant(matrix)?;
            let turned = transposed(source)?;
            self.release(source);
            let weight: (WeightName, Tensor) = if let Some((name, twin)) = self.twin(&turned) {
                (name.into(), twin.clone())
            } else if self.only_multiplied(matrix) {
                (matrix.into(), turned)
            } else {
                (format!("{matrix}.transposed").into(), turned)
            };
            weights.push(weight);
            weights[0].0.clone()
        };
        let out = weights[0].1.shape()[0];
        let bias = match bias {
            None => None,
            Some(bias) => {
                weights.push(self.bias(bias, out, self.rank(input))?);
                Some(bias.into())
            }
        };
        let step = Step::new(Linear { weight, bias }, [Arg::named(input)]);
        Some(step.with(weights))
    }

    /// The constant `name` as a vector of `out` elements, where adding it to a product of `rank`
    /// dimensions adds that vector to every row.
    fn bias(&self, name: &str, out: usize, rank: Option<usize>) -> Option<(WeightName, Tensor)> {
        let tensor = self.constant(name)?;
        let is_row = tensor.shape().last() == Some(&out) && tensor.len() == out;
        let adds_no_dimension = tensor.shape().len() <= rank.unwrap_or(1);
        let vector = tensor.reshaped(vec![out]).ok()?;
        (is_row && adds_no_dimension).then(|| (name.into(), vector))
    }

    /// The constant that is equal to `matrix`. Exporters fold the transposition of a tied weight
    /// into a copy of it; this finds them together again.
    fn twin(&self, matrix: &Tensor) -> Option<(&str, &Tensor)> {
        let mut others = self.constants();
        others.find(|(_, other)| matrix.len() > SMALL && *other == matrix)
    }

    /// True where a matrix is nothing but the right factor of products, so that the graph may hold
    /// it transposed under its own name.
    fn only_multiplied(&self, matrix: &str) -> bool {
        let takers = self.takers.get(matrix).map_or(&[][..], |t| t);
        takers.iter().all(|&index| {
            self.nodes().get(index).is_some_and(|node| {
                let is_right = node.arg(1) == Some(matrix) && node.arg(0) != Some(matrix);
                match node.op_type() {
                    "MatMul" => is_right,
                    "Gemm" => is_right && node.int_or("transB", 0) == 0,
                    _ => false,
                }
            })
        })
    }

    pub(super) fn gemm(&self, node: &NodeProto) -> Option<Step> {
        let plain = node.float_or("alpha", 1.0) == 1.0
            && (node.float_or("beta", 1.0) == 1.0 || node.arg(2).is_none())
            && node.int_or("transA", 0) == 0;
        if !plain || self.constant(node.arg(0)?).is_some() {
            return None;
        }
        if node.int_or("transB", 0) == 0 {
            return self.linear_step(node.arg(0)?, node.arg(1)?, node.arg(2));
        }
        let (weight, matrix) = self.weight(node, 1)?;
        let &[out, _] = matrix.shape() else {
            return None;
        };
        let mut weights = vec![(weight.clone(), matrix)];
        let bias = match node.arg(2) {
            None => None,
            Some(name) => {
                weights.push(self.bias(name, out, Some(2))?);
                Some(name.into())
            }
        };
        let step = Step::new(Linear { weight, bias }, [self.input(node, 0)?]);
        Some(step.with(weights))
    }

    pub(super) fn matmul(&self, node: &NodeProto) -> Option<Step> {
        let (a, b) = (node.arg(0)?, node.arg(1)?);
        let is_value = |name: &str| self.constant(name).is_none();
        let is_matrix = self.transposed.contains_key(b)
            || self.constant(b).is_some_and(|t| t.shape().len() == 2);
        if is_value(a) && is_matrix {
            return self.linear_step(a, b, None);
        }
        // Vectors would change the number of dimensions.
        let ranks_fit = [a, b].iter().all(|n| self.rank(n).is_none_or(|r| r >= 2));
        ranks_fit.then(|| Step::new(MatMul {}, [Arg::named(a), Arg::named(b)]))
    }
}
