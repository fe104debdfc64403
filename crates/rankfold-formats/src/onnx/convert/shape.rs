//! Other shapes, other orders, parts.

use rankfold_graph::Dim;
use rankfold_graph::ops::{
    Activation, Concat, Embedding, Expand, Flatten, Mean, Pad, Permute, Reshape, Slice, Split,
    Squeeze, Unsqueeze,
};

use super::{Arg, Step};
use crate::onnx::ints::Elem;
use crate::onnx::proto::NodeProto;
use crate::onnx::read::Import;

impl Import<'_> {
    /// Integers that are an attribute in old opsets and input `index` in new ones: none where they
    /// are absent, `Err` where they are only known when the model runs.
    fn listed(&self, node: &NodeProto, name: &str, index: usize) -> Result<Option<Vec<i64>>, ()> {
        if let Some(values) = node.ints(name) {
            return Ok(Some(values.to_vec()));
        }
        match node.arg(index) {
            None => Ok(None),
            Some(input) => self.numbers(input).map(Some).ok_or(()),
        }
    }

    pub(super) fn concat(&self, node: &NodeProto) -> Option<Step> {
        let axis = node.int("axis")?;
        let inputs = node.input.iter().map(|name| Arg::named(name));
        Some(Step::new(Concat { axis }, inputs))
    }

    pub(super) fn split(&self, node: &NodeProto) -> Option<Step> {
        let axis = node.int_or("axis", 0);
        let shape = self.fact(node.arg(0)?)?.shape?;
        let place = if axis < 0 {
            axis + shape.len() as i64
        } else {
            axis
        };
        let size = || shape.get(usize::try_from(place).ok()?)?.fixed();
        let sizes: Vec<usize> = match self.listed(node, "split", 1).ok()? {
            Some(sizes) => sizes
                .iter()
                .map(|&s| usize::try_from(s).ok())
                .collect::<Option<_>>()?,
            None => {
                let (size, parts) = (size()?, node.output.len());
                let part = size.div_ceil(parts.max(1));
                (0..parts)
                    .map(|i| part.min(size.saturating_sub(i * part)))
                    .collect()
            }
        };
        if sizes.len() != node.output.len() || node.output.iter().any(String::is_empty) {
            return None;
        }
        Some(Step::new(Split { axis, sizes }, [self.input(node, 0)?]))
    }

    pub(super) fn slice(&self, node: &NodeProto) -> Option<Vec<Step>> {
        let numbers = |i: usize| self.numbers(node.arg(i)?);
        let (starts, ends) = (numbers(1)?, numbers(2)?);
        let axes = match node.arg(3) {
            None => (0..starts.len() as i64).collect(),
            Some(_) => numbers(3)?,
        };
        let steps = match node.arg(4) {
            None => vec![1; starts.len()],
            Some(_) => numbers(4)?,
        };
        let len = starts.len();
        if [ends.len(), axes.len(), steps.len()] != [len; 3] || len == 0 {
            return None;
        }
        let mut chain = Vec::with_capacity(len);
        for i in 0..len {
            let input = if i == 0 {
                self.input(node, 0)?
            } else {
                Arg::Previous
            };
            let beyond = ends[i] >= i64::from(i32::MAX);
            let op = Slice {
                axis: axes[i],
                start: starts[i],
                end: (!beyond).then_some(ends[i]),
                step: usize::try_from(steps[i]).ok().filter(|&s| s > 0)?,
            };
            chain.push(Step::new(op, [input]));
        }
        Some(chain)
    }

    pub(super) fn flatten(&self, node: &NodeProto) -> Option<Step> {
        let rank = self.rank(node.arg(0)?);
        let axis = match (node.int_or("axis", 1), rank) {
            (a, Some(rank)) if a < 0 => a + rank as i64,
            (a, _) => a,
        };
        // The result always has two dimensions.
        if axis != 1 || rank.is_some_and(|r| r < 2) {
            return None;
        }
        let op = Flatten { start: 1, end: -1 };
        Some(Step::new(op, [self.input(node, 0)?]))
    }

    pub(super) fn reshape(&self, node: &NodeProto) -> Option<Step> {
        let input = node.arg(0)?;
        if self.constant(input).is_some() {
            return None;
        }
        let source = self.fact(input).and_then(|f| f.shape);
        let id = self.value(input);
        let literal_zero = node.int_or("allowzero", 0) != 0;
        let mut shape = Vec::new();
        for (i, elem) in self.ints(node.arg(1)?)?.into_iter().enumerate() {
            let here = source.as_ref().and_then(|s| s.get(i));
            shape.push(match elem {
                Elem::Const(0) if literal_zero => return None,
                Elem::Const(n) => n,
                Elem::Size(of, axis) if Some(of) == id && axis == i => 0,
                Elem::Size(of, axis) => {
                    let dim = self.builder.fact(of).shape.as_ref()?.get(axis)?;
                    let same = matches!(dim, Dim::Symbol(_)) && Some(dim) == here;
                    if same { 0 } else { -1 }
                }
                Elem::Unknown => -1,
            });
        }
        let open = shape.iter().filter(|&&n| n == -1).count();
        (open <= 1).then(|| Step::new(Reshape { shape }, [Arg::named(input)]))
    }

    pub(super) fn transpose(&self, node: &NodeProto) -> Option<Step> {
        let dims: Vec<usize> = match node.ints("perm") {
            Some(perm) => perm
                .iter()
                .map(|&p| usize::try_from(p).ok())
                .collect::<Option<_>>()?,
            None => (0..self.rank(node.arg(0)?)?).rev().collect(),
        };
        Some(Step::new(Permute { dims }, [self.input(node, 0)?]))
    }

    pub(super) fn squeeze(&self, node: &NodeProto) -> Option<Step> {
        let axes = self.listed(node, "axes", 1).ok()??;
        let input = [self.input(node, 0)?];
        Some(match node.op_type() {
            "Squeeze" => Step::new(Squeeze { axes }, input),
            _ => Step::new(Unsqueeze { axes }, input),
        })
    }

    pub(super) fn expand(&self, node: &NodeProto) -> Option<Step> {
        let input = node.arg(0)?;
        let own = self.fact(input)?.shape?;
        let target = self.ints(node.arg(1)?)?;
        let missing = target.len().checked_sub(own.len())?;
        let mut like = None;
        let mut shape = Vec::with_capacity(target.len());
        for (i, elem) in target.into_iter().enumerate() {
            shape.push(match elem {
                Elem::Const(1) if i >= missing => -1,
                Elem::Const(n) if n >= 1 => n,
                Elem::Size(of, 0) if i == 0 => {
                    like = Some(of);
                    1
                }
                _ => return None,
            });
        }
        let op = Expand {
            shape,
            batch_of: like.is_some(),
        };
        let inputs = std::iter::once(Arg::named(input)).chain(like.map(Arg::Value));
        Some(Step::new(op, inputs))
    }

    pub(super) fn pad(&self, node: &NodeProto) -> Option<Step> {
        if !matches!(node.text("mode"), "" | "constant") || node.arg(3).is_some() {
            return None;
        }
        let pads = self.numbers(node.arg(1)?)?;
        let value = match node.arg(2) {
            None => 0.0,
            Some(name) => self.scalar(name)?,
        };
        let rank = pads.len() / 2;
        let padding = (0..rank).map(|i| [pads[i], pads[i + rank]]).collect();
        Some(Step::new(Pad { padding, value }, [self.input(node, 0)?]))
    }

    pub(super) fn mean(&self, node: &NodeProto) -> Option<Step> {
        let keep = node.int_or("keepdims", 1) != 0;
        let axes = match self.listed(node, "axes", 1).ok()? {
            Some(axes) if !axes.is_empty() => axes,
            _ if node.int_or("noop_with_empty_axes", 0) != 0 => return None,
            _ => (0..self.rank(node.arg(0)?)? as i64).collect(),
        };
        Some(Step::new(Mean { axes, keep }, [self.input(node, 0)?]))
    }

    /// A look-up in a table, all of a value as it is, or one place along an axis.
    pub(super) fn gather(&self, node: &NodeProto) -> Option<Vec<Step>> {
        let (data, indices) = (node.arg(0)?, node.arg(1)?);
        let axis = node.int_or("axis", 0);
        if let Some(table) = self.constant(data) {
            if axis != 0 || table.shape().len() != 2 {
                return None;
            }
            let weight = self.weight(node, 0)?;
            let op = Embedding {
                weight: weight.0.clone(),
            };
            return Some(vec![
                Step::new(op, [Arg::named(indices)]).with(vec![weight]),
            ]);
        }
        if let Some(source) = self.relisted(data, indices).filter(|_| axis == 0) {
            return Some(vec![Step::new(Activation::Identity, [Arg::named(source)])]);
        }
        let place = self.constant(indices).filter(|t| t.shape().is_empty())?;
        let &[at] = &place.to_i64()?[..] else {
            return None;
        };
        let slice = Slice {
            axis,
            start: at,
            end: (at != -1).then_some(at + 1),
            step: 1,
        };
        let squeeze = Squeeze { axes: vec![axis] };
        Some(vec![
            Step::new(slice, [Arg::named(data)]),
            Step::new(squeeze, [Arg::Previous]),
        ])
    }
}
