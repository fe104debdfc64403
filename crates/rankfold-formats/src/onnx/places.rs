//! Indices that files compute to look elements up by their place in memory: sums of multiples of the
//! place along each axis.

use rankfold_graph::{Dim, Tensor};

use super::ints::Elem;
use super::proto::NodeProto;
use super::read::Import;

/// Constants longer than this are not looked at.
const LONGEST: usize = 1 << 20;

/// An integer tensor whose element at `i` is the sum of `i[axis]` times the stride of that axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places(Vec<Axis>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    len: Elem,
    stride: i64,
}

impl Axis {
    const SINGLE: Self = Self {
        len: Elem::Const(1),
        stride: 0,
    };

    fn is_single(self) -> bool {
        self.len == Elem::Const(1)
    }

    fn along_both(self, other: Self) -> Option<Self> {
        let len = match (self.is_single(), other.is_single()) {
            (true, _) => other.len,
            (_, true) => self.len,
            _ if self.len == other.len && self.len != Elem::Unknown => self.len,
            _ => return None,
        };
        let stride = self.stride.checked_add(other.stride)?;
        Some(Self { len, stride })
    }
}

impl Places {
    /// `0, 1, 2, …` up to `len`.
    fn counted(len: Elem) -> Option<Self> {
        let axis = Axis { len, stride: 1 };
        (len != Elem::Unknown).then(|| Self(vec![axis]))
    }

    /// A constant, where it is of this form.
    fn constant(tensor: &Tensor) -> Option<Self> {
        if tensor.len() > LONGEST || tensor.is_empty() || tensor.shape().len() > 8 {
            return None;
        }
        let values = tensor.to_i64()?;
        let mut inner = tensor.len();
        let mut axes = Vec::with_capacity(tensor.shape().len());
        for &len in tensor.shape() {
            inner /= len;
            let stride = if len > 1 { values[inner] } else { 0 };
            let len = Elem::Const(i64::try_from(len).ok()?);
            axes.push(Axis { len, stride });
        }
        let expected = |mut i: usize| {
            let mut sum = 0i64;
            for (&len, axis) in tensor.shape().iter().zip(&axes).rev() {
                let step = i64::try_from(i % len).ok()?.checked_mul(axis.stride)?;
                sum = sum.checked_add(step)?;
                i /= len;
            }
            Some(sum)
        };
        let mut all = values.iter().enumerate();
        all.all(|(i, &value)| expected(i) == Some(value))
            .then_some(Self(axes))
    }

    fn times(mut self, factor: i64) -> Option<Self> {
        for axis in &mut self.0 {
            axis.stride = axis.stride.checked_mul(factor)?;
        }
        Some(self)
    }

    fn plus(mut self, mut other: Self) -> Option<Self> {
        let rank = self.0.len().max(other.0.len());
        for axes in [&mut self.0, &mut other.0] {
            axes.splice(..0, vec![Axis::SINGLE; rank - axes.len()]);
        }
        let both = self.0.into_iter().zip(other.0);
        both.map(|(a, b)| a.along_both(b))
            .collect::<Option<_>>()
            .map(Self)
    }

    fn unsqueezed(mut self, axes: &[i64]) -> Option<Self> {
        let rank = self.0.len() + axes.len();
        let place = |&axis: &i64| {
            let axis = if axis < 0 { axis + rank as i64 } else { axis };
            usize::try_from(axis).ok().filter(|&axis| axis < rank)
        };
        let mut axes = axes.iter().map(place).collect::<Option<Vec<_>>>()?;
        axes.sort_unstable();
        for axis in axes {
            if axis > self.0.len() {
                return None;
            }
            self.0.insert(axis, Axis::SINGLE);
        }
        Some(self)
    }
}

impl<'a> Import<'a> {
    /// The result of a node that computes such indices; none for every other node.
    pub(super) fn places_of(&self, node: &'a NodeProto) -> Option<Places> {
        if !node.is_standard() || node.output.len() != 1 {
            return None;
        }
        let known = |i: usize| self.places.get(node.arg(i)?).cloned();
        let single = |i: usize| match self.ints(node.arg(i)?)?[..] {
            [elem] => Some(elem),
            _ => None,
        };
        match node.op_type() {
            "Range" => match (single(0)?, single(2)?) {
                (Elem::Const(0), Elem::Const(1)) => Places::counted(single(1)?),
                _ => None,
            },
            "Mul" => match (known(0), known(1)) {
                (Some(places), None) => match single(1)? {
                    Elem::Const(factor) => places.times(factor),
                    _ => None,
                },
                (None, Some(places)) => match single(0)? {
                    Elem::Const(factor) => places.times(factor),
                    _ => None,
                },
                _ => None,
            },
            "Unsqueeze" => {
                let axes = match node.ints("axes") {
                    Some(axes) => axes.to_vec(),
                    None => self.numbers(node.arg(1)?)?,
                };
                known(0)?.unsqueezed(&axes)
            }
            "Add" => {
                let constant = |i: usize| Places::constant(self.constant(node.arg(i)?)?);
                match (known(0), known(1)) {
                    (Some(a), Some(b)) => a.plus(b),
                    (Some(a), None) => a.plus(constant(1)?),
                    (None, Some(b)) => constant(0)?.plus(b),
                    (None, None) => None,
                }
            }
            _ => None,
        }
    }

    /// The value whose elements, flattened into `flat`, `indices` lists in their own order and shape.
    pub(super) fn relisted(&self, flat: &str, indices: &str) -> Option<&'a str> {
        let Places(axes) = self.places.get(indices)?;
        let maker = &self.nodes()[self.maker(flat)?];
        let flattens = maker.is_standard()
            && maker.op_type() == "Reshape"
            && self.numbers(maker.arg(1)?)? == [-1];
        let source = maker.arg(0).filter(|_| flattens)?;
        let shape = self.fact(source)?.shape?;
        if shape.len() != axes.len() {
            return None;
        }
        // The stride that the next axis has; none before an open size.
        let mut expected = Some(1i64);
        for (axis, dim) in axes.iter().zip(&shape).rev() {
            if !self.is_size(axis.len, dim) || !axis.is_single() && Some(axis.stride) != expected {
                return None;
            }
            let len = dim.fixed().and_then(|n| i64::try_from(n).ok());
            expected = expected.zip(len).and_then(|(a, b)| a.checked_mul(b));
        }
        Some(source)
    }

    /// True where `elem` is certainly the size `dim`.
    fn is_size(&self, elem: Elem, dim: &Dim) -> bool {
        match (elem, dim) {
            (Elem::Const(n), Dim::Fixed(size)) => usize::try_from(n) == Ok(*size),
            (Elem::Size(of, axis), Dim::Symbol(_)) => {
                let shape = self.builder.fact(of).shape.as_ref();
                shape.and_then(|shape| shape.get(axis)) == Some(dim)
            }
            _ => false,
        }
    }
}
