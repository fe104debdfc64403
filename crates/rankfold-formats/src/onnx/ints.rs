//! Small integer tensors that files compute from shapes, evaluated as far as they are known.

use rankfold_graph::{DType, Dim, Tensor, ValueId};

use super::proto::NodeProto;
use super::read::Import;

/// Tensors longer than this are no shapes.
const LONGEST: usize = 64;

/// An element of such a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elem {
    /// A number.
    Const(i64),
    /// The size of a value along an axis, known when the model runs.
    Size(ValueId, usize),
    /// Some number that is known when the model runs.
    Unknown,
}

impl Elem {
    fn number(self) -> Option<i64> {
        match self {
            Self::Const(n) => Some(n),
            Self::Size(..) | Self::Unknown => None,
        }
    }
}

/// A small integer tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ints {
    shape: Vec<usize>,
    pub(super) elems: Vec<Elem>,
}

impl Ints {
    fn new(shape: Vec<usize>, elems: Vec<Elem>) -> Option<Self> {
        let fits = elems.len() <= LONGEST && shape.iter().product::<usize>() == elems.len();
        fits.then_some(Self { shape, elems })
    }

    fn vector(elems: Vec<Elem>) -> Option<Self> {
        Self::new(vec![elems.len()], elems)
    }

    fn numbers(&self) -> Option<Vec<i64>> {
        self.elems.iter().map(|e| e.number()).collect()
    }

    /// Length of an axis, elements before it, elements within one step of it.
    fn along(&self, axis: i64) -> Option<(usize, usize, usize)> {
        let rank = self.shape.len() as i64;
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
        let len = *self.shape.get(axis)?;
        let product = |s: &[usize]| s.iter().product();
        Some((
            len,
            product(&self.shape[..axis]),
            product(&self.shape[axis + 1..]),
        ))
    }

    /// The parts at `places` along an axis, one after the other.
    fn pick(&self, axis: i64, places: &[usize]) -> Option<Self> {
        let (len, before, inner) = self.along(axis)?;
        let mut elems = Vec::new();
        for outer in 0..before {
            for &place in places {
                let start = (outer * len + place) * inner;
                elems.extend_from_slice(self.elems.get(start..start + inner)?);
            }
        }
        let rank = self.shape.len() as i64;
        let mut shape = self.shape.clone();
        shape[(if axis < 0 { axis + rank } else { axis }) as usize] = places.len();
        Self::new(shape, elems)
    }
}

fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index + len as i64 } else { index };
    usize::try_from(index).ok().filter(|&i| i < len)
}

impl Import<'_> {
    /// What is known of `name`, where it is a small integer tensor.
    fn small_ints(&self, name: &str) -> Option<Ints> {
        if let Some(known) = self.known_ints.get(name) {
            return Some(known.clone());
        }
        let tensor = self.constant(name).filter(|t| t.len() <= LONGEST)?;
        let elems = tensor.to_i64()?.into_iter().map(Elem::Const).collect();
        Ints::new(tensor.shape().to_vec(), elems)
    }

    /// The elements of `name`, where it is a small integer vector or number.
    pub(super) fn ints(&self, name: &str) -> Option<Vec<Elem>> {
        let ints = self.small_ints(name)?;
        (ints.shape.len() <= 1).then_some(ints.elems)
    }

    /// The same, where all of it is known now.
    pub(super) fn numbers(&self, name: &str) -> Option<Vec<i64>> {
        self.ints(name)?.into_iter().map(Elem::number).collect()
    }

    /// The result of a node that computes with shapes; none for every other node.
    pub(super) fn evaluate(&self, node: &NodeProto) -> Option<Ints> {
        if !node.is_standard() || node.output.len() != 1 {
            return None;
        }
        let arg = |i: usize| self.small_ints(node.arg(i)?);
        match node.op_type() {
            "Shape" => self.shape_of(node),
            "Identity" => arg(0),
            "Cast" if matches!(node.int("to"), Some(6 | 7 | 9)) => arg(0),
            "Unsqueeze" | "Squeeze" => self.with_other_rank(node),
            "Reshape" => {
                let data = arg(0)?;
                let mut shape = self.numbers(node.arg(1)?)?;
                let given: i64 = shape.iter().filter(|&&n| n > 0).product();
                for size in &mut shape {
                    *size = match *size {
                        -1 => data.elems.len() as i64 / given.max(1),
                        0 => return None,
                        n => n,
                    };
                }
                let sizes = shape.iter().map(|&n| usize::try_from(n).ok());
                Ints::new(sizes.collect::<Option<_>>()?, data.elems)
            }
            "Transpose" => {
                let data = arg(0)?;
                let &[rows, columns] = &data.shape[..] else {
                    return None;
                };
                if node.ints("perm").is_some_and(|p| p != [1, 0]) {
                    return None;
                }
                let at = |i: usize| data.elems[i % rows * columns + i / rows];
                Ints::new(vec![columns, rows], (0..rows * columns).map(at).collect())
            }
            "Gather" => {
                let (data, indices, axis) = (arg(0)?, arg(1)?, node.int_or("axis", 0));
                let (len, ..) = data.along(axis)?;
                let places = indices.numbers()?.into_iter().map(|i| place(i, len));
                let mut picked = data.pick(axis, &places.collect::<Option<Vec<_>>>()?)?;
                match indices.shape.len() {
                    0 => {
                        let rank = data.shape.len() as i64;
                        let axis = if axis < 0 { axis + rank } else { axis };
                        picked.shape.remove(axis as usize);
                        Some(picked)
                    }
                    1 => Some(picked),
                    _ => None,
                }
            }
            "Concat" => {
                let parts = node.input.iter().map(|name| self.small_ints(name));
                let parts: Vec<Ints> = parts.collect::<Option<_>>()?;
                let along_first =
                    matches!(node.int("axis")?, 0) || parts.iter().all(|p| p.shape.len() == 1);
                let inner = parts.first()?.shape.get(1..)?.to_vec();
                if !along_first || parts.iter().any(|p| p.shape.get(1..) != Some(&inner[..])) {
                    return None;
                }
                let len = parts.iter().map(|p| p.shape[0]).sum();
                let elems = parts.into_iter().flat_map(|p| p.elems).collect();
                Ints::new([vec![len], inner].concat(), elems)
            }
            "Slice" => {
                let data = arg(0)?;
                let one = |i: usize| match self.numbers(node.arg(i)?)?[..] {
                    [n] => Some(n),
                    _ => None,
                };
                let axis = if node.arg(3).is_some() { one(3)? } else { 0 };
                let step = if node.arg(4).is_some() { one(4)? } else { 1 };
                let len = data.along(axis)?.0 as i64;
                let wrap = |p: i64| if p < 0 { p.saturating_add(len) } else { p };
                let places: Vec<usize> = match step {
                    1.. => {
                        let (start, end) =
                            (wrap(one(1)?).clamp(0, len), wrap(one(2)?).clamp(0, len));
                        let step = usize::try_from(step).ok()?;
                        (start as usize..end as usize).step_by(step).collect()
                    }
                    -1 => {
                        let start = wrap(one(1)?).clamp(-1, len - 1);
                        let end = wrap(one(2)?).clamp(-1, len - 1);
                        (end + 1..=start).rev().map(|i| i as usize).collect()
                    }
                    _ => return None,
                };
                data.pick(axis, &places)
            }
            "Add" => zip(
                &arg(0)?,
                &arg(1)?,
                arithmetic(i64::checked_add, [Some(0), Some(0)]),
            ),
            "Sub" => zip(
                &arg(0)?,
                &arg(1)?,
                arithmetic(i64::checked_sub, [None, Some(0)]),
            ),
            "Mul" => zip(
                &arg(0)?,
                &arg(1)?,
                arithmetic(i64::checked_mul, [Some(1), Some(1)]),
            ),
            "Div" => zip(
                &arg(0)?,
                &arg(1)?,
                arithmetic(i64::checked_div, [None, Some(1)]),
            ),
            "Mod" if node.int_or("fmod", 0) == 0 => zip(
                &arg(0)?,
                &arg(1)?,
                arithmetic(floored_remainder, [None, None]),
            ),
            "Min" if node.input.len() == 2 => zip(
                &arg(0)?,
                &arg(1)?,
                arithmetic(|a, b| Some(a.min(b)), [None, None]),
            ),
            "Max" if node.input.len() == 2 => zip(
                &arg(0)?,
                &arg(1)?,
                arithmetic(|a, b| Some(a.max(b)), [None, None]),
            ),
            "Not" => {
                let mut values = arg(0)?;
                for elem in &mut values.elems {
                    *elem = elem
                        .number()
                        .map_or(Elem::Unknown, |n| Elem::Const((n == 0).into()));
                }
                Some(values)
            }
            "Equal" => zip(&arg(0)?, &arg(1)?, |a, b| match (a, b) {
                (Elem::Const(a), Elem::Const(b)) => Elem::Const((a == b).into()),
                // Sizes are not negative.
                (Elem::Size(..), Elem::Const(n)) | (Elem::Const(n), Elem::Size(..)) if n < 0 => {
                    Elem::Const(0)
                }
                _ => Elem::Unknown,
            }),
            "Where" => {
                let (condition, a, b) = (arg(0)?, arg(1)?, arg(2)?);
                let condition = condition.numbers();
                match condition {
                    Some(c) if c.len() == a.elems.len() && a.shape == b.shape => {
                        let chosen = c.iter().zip(a.elems.iter().zip(&b.elems));
                        let chosen = chosen.map(|(&c, (a, b))| if c != 0 { *a } else { *b });
                        Ints::new(a.shape.clone(), chosen.collect())
                    }
                    _ => zip(&a, &b, |a, b| if a == b { a } else { Elem::Unknown }),
                }
            }
            "ConstantOfShape" => {
                let &[len] = &arg(0)?.numbers()?[..] else {
                    return None;
                };
                let fill = self.small_tensor(node.tensor("value")?)?.to_i64()?;
                let len = usize::try_from(len).ok().filter(|&n| n <= LONGEST)?;
                Ints::vector(vec![Elem::Const(*fill.first()?); len])
            }
            "ReduceProd" if node.int_or("keepdims", 1) == 0 => {
                let all = arg(0)?.numbers();
                let product =
                    all.and_then(|all| all.iter().try_fold(1, |n: i64, &m| n.checked_mul(m)));
                Ints::new(vec![], vec![product.map_or(Elem::Unknown, Elem::Const)])
            }
            _ => None,
        }
    }

    fn with_other_rank(&self, node: &NodeProto) -> Option<Ints> {
        let data = self.small_ints(node.arg(0)?)?;
        let axes = match (node.ints("axes"), node.arg(1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(name)) => self.numbers(name)?,
            (None, None) if node.op_type() == "Squeeze" => {
                let kept = data.shape.into_iter().filter(|&len| len != 1);
                return Ints::new(kept.collect(), data.elems);
            }
            (None, None) => return None,
        };
        let &[axis] = &axes[..] else { return None };
        let mut shape = data.shape;
        if node.op_type() == "Unsqueeze" {
            shape.insert(place(axis, shape.len() + 1)?, 1);
        } else {
            shape.remove(place(axis, shape.len())?);
        }
        Ints::new(shape, data.elems)
    }

    fn shape_of(&self, node: &NodeProto) -> Option<Ints> {
        let name = node.arg(0)?;
        let fixed = |shape: &[usize]| shape.iter().map(|&n| Elem::Const(n as i64)).collect();
        let sizes: Vec<Elem> = if let Some(ints) = self.known_ints.get(name) {
            fixed(&ints.shape)
        } else if let Some(tensor) = self.constant(name) {
            fixed(tensor.shape())
        } else {
            let id = self.value(name)?;
            let shape = self.builder.fact(id).shape.as_ref()?;
            let size = |(axis, dim): (usize, &Dim)| match dim {
                Dim::Fixed(n) => Elem::Const(*n as i64),
                Dim::Symbol(_) | Dim::Unknown(()) => Elem::Size(id, axis),
            };
            shape.iter().enumerate().map(size).collect()
        };
        let len = sizes.len() as i64;
        let clamp = |p: i64| (if p < 0 { p.saturating_add(len) } else { p }).clamp(0, len) as usize;
        let start = clamp(node.int_or("start", 0));
        let end = clamp(node.int_or("end", len));
        Ints::vector(sizes.get(start..end.max(start))?.to_vec())
    }

    /// The result of a node whose inputs are constants and small: casts and arithmetic of numbers.
    pub(super) fn fold(&self, node: &NodeProto) -> Option<Tensor> {
        if !node.is_standard() || node.output.len() != 1 {
            return None;
        }
        if node.op_type() == "Identity" {
            return self.constant(node.arg(0)?).cloned();
        }
        let (dtype, shape, a) = self.small_numbers(node.arg(0)?)?;
        let second = || self.small_numbers(node.arg(1)?);
        let each = |f: fn(f64) -> f64| a.iter().map(|&v| f(v)).collect::<Vec<f64>>();
        let values = match node.op_type() {
            "Cast" => {
                let to = super::tensor::dtype_of(i32::try_from(node.int("to")?).ok()?)?;
                return tensor_of(to, shape, &a);
            }
            _ if !dtype.is_float() => return None,
            "Sqrt" => each(f64::sqrt),
            "Neg" => each(|v| -v),
            "Reciprocal" => each(|v| 1.0 / v),
            kind @ ("Add" | "Sub" | "Mul" | "Div") => {
                let (_, other, b) = second()?;
                let compute = |a: f64, b: f64| match kind {
                    "Add" => a + b,
                    "Sub" => a - b,
                    "Mul" => a * b,
                    _ => a / b,
                };
                return match (a.len(), b.len()) {
                    (n, m) if n == m && shape == other => {
                        let values: Vec<f64> =
                            a.iter().zip(&b).map(|(&a, &b)| compute(a, b)).collect();
                        tensor_of(dtype, shape, &values)
                    }
                    (1, _) if shape.len() <= other.len() => {
                        let values: Vec<f64> = b.iter().map(|&b| compute(a[0], b)).collect();
                        tensor_of(dtype, other, &values)
                    }
                    (_, 1) if other.len() <= shape.len() => {
                        let values: Vec<f64> = a.iter().map(|&a| compute(a, b[0])).collect();
                        tensor_of(dtype, shape, &values)
                    }
                    _ => None,
                };
            }
            _ => return None,
        };
        tensor_of(dtype, shape, &values)
    }

    fn small_numbers(&self, name: &str) -> Option<(DType, Vec<usize>, Vec<f64>)> {
        if let Some(ints) = self.known_ints.get(name) {
            let values = ints.numbers()?.into_iter().map(|n| n as f64).collect();
            return Some((DType::I64, ints.shape.clone(), values));
        }
        let tensor = self.constant(name).filter(|t| t.len() <= LONGEST)?;
        let values = match tensor.to_i64() {
            Some(values) => values.into_iter().map(|n| n as f64).collect(),
            None => tensor
                .to_f32()
                .ok()?
                .iter()
                .map(|&v| f64::from(v))
                .collect(),
        };
        Some((tensor.dtype(), tensor.shape().to_vec(), values))
    }
}

fn tensor_of(dtype: DType, shape: Vec<usize>, values: &[f64]) -> Option<Tensor> {
    match dtype {
        DType::I64 => Tensor::from_i64(shape, values.iter().map(|&v| v as i64).collect()).ok(),
        DType::F64 => Tensor::from_f64(shape, values.to_vec()).ok(),
        _ => {
            let values = values.iter().map(|&v| v as f32).collect();
            let tensor = Tensor::from_f32(shape, values).ok()?;
            tensor.to_float_dtype(dtype).ok()
        }
    }
}

/// The remainder that has the sign of the divisor.
fn floored_remainder(a: i64, b: i64) -> Option<i64> {
    let remainder = a.checked_rem(b)?;
    let wrong_sign = remainder != 0 && (remainder < 0) != (b < 0);
    Some(if wrong_sign { remainder + b } else { remainder })
}

/// Elementwise, with numbers and vectors of one broadcast.
fn zip(a: &Ints, b: &Ints, compute: impl Fn(Elem, Elem) -> Elem) -> Option<Ints> {
    let (longer, len) = match (a.elems.len(), b.elems.len()) {
        (n, m) if n == m => (if a.shape.len() >= b.shape.len() { a } else { b }, n),
        (n, 1) => (a, n),
        (1, m) => (b, m),
        _ => return None,
    };
    if a.shape.len().min(b.shape.len()) > 1 && a.shape != b.shape {
        return None;
    }
    let at = |v: &Ints, i: usize| {
        if v.elems.len() == 1 {
            v.elems[0]
        } else {
            v.elems[i]
        }
    };
    let elems = (0..len).map(|i| compute(at(a, i), at(b, i))).collect();
    Ints::new(longer.shape.clone(), elems)
}

/// Arithmetic with the numbers that change nothing on the left and on the right.
fn arithmetic(
    compute: fn(i64, i64) -> Option<i64>,
    neutral: [Option<i64>; 2],
) -> impl Fn(Elem, Elem) -> Elem {
    move |a, b| match (a, b) {
        (Elem::Const(a), Elem::Const(b)) => compute(a, b).map_or(Elem::Unknown, Elem::Const),
        (Elem::Const(n), other) if Some(n) == neutral[0] => other,
        (other, Elem::Const(n)) if Some(n) == neutral[1] => other,
        _ => Elem::Unknown,
    }
}
