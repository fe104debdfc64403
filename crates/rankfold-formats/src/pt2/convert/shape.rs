//! Other shapes, other orders, parts.

use rankfold_graph::Dim;
use rankfold_graph::ops::{
    Activation, Concat, Expand, Flatten, Mean, Pad, Permute, Reshape, Slice, Split, Squeeze,
    Unsqueeze,
};

use super::{Arg, Step};
use crate::pt2::arguments::Size;
use crate::pt2::import::Import;
use crate::pt2::schema::{FileNode, SymInt};

impl Import<'_> {
    /// Dimensions of a value as the program gives them, which is more than the graph may know.
    fn shape_of(&self, name: &str) -> Option<Vec<SymInt>> {
        match self.file.tensor_values.get(name) {
            Some(meta) => Some(meta.sizes.clone()),
            None => {
                let shape = self.fact(name)?.shape?;
                let size = |dim: &Dim| i64::try_from(dim.fixed()?).ok().map(SymInt::AsInt);
                shape.iter().map(size).collect()
            }
        }
    }

    fn axis(&self, node: &FileNode, name: &str, rank: usize) -> Option<usize> {
        place(node.int_or(name, 0)?, rank)
    }

    /// A view by strides that are the value's own.
    pub(super) fn as_strided(&self, node: &FileNode) -> Option<Step> {
        let input = node.tensor("self")?;
        let meta = self.file.tensor_values.get(input)?;
        let given = |name: &str| -> Option<Vec<SymInt>> {
            let sizes = node.sizes(name)?.into_iter().map(|size| match size {
                Size::Int(n) => Some(SymInt::AsInt(n)),
                Size::Name(name) => self.file.sym_int_values.get(&name).cloned(),
            });
            sizes.collect()
        };
        let (sizes, strides) = (given("size")?, given("stride")?);
        let same = sizes == meta.sizes
            && strides.len() == sizes.len()
            && meta.strides.len() == sizes.len()
            && node.int_or("storage_offset", 0)? == 0
            && meta.storage_offset.int() == Some(0);
        let mut axes = sizes.iter().zip(strides.iter().zip(&meta.strides));
        let alike = axes.all(|(size, (a, b))| size.int() == Some(1) || a == b);
        (same && alike).then(|| Step::new(Activation::Identity, [Arg::named(input)]))
    }

    pub(super) fn concat(&self, node: &FileNode) -> Option<Step> {
        let axis = node.int_or("dim", 0)?;
        let names = node.tensors("tensors")?;
        let first = self.fact(names.first()?)?;
        let alike = |name: &&str| {
            let fact = self.fact(name);
            fact.is_some_and(|f| f.dtype == first.dtype)
        };
        let all = names.iter().all(alike);
        all.then(|| Step::new(Concat { axis }, names.iter().map(|name| Arg::named(name))))
    }

    pub(super) fn split(&self, node: &FileNode, op: &str) -> Option<Step> {
        let input = node.tensor("self").or(node.tensor("input"))?;
        let shape = self.fact(input)?.shape?;
        let axis = node.int_or("dim", 0)?;
        let total = || shape.get(place(axis, shape.len())?)?.fixed();
        let outputs = node.made().len();
        // Counted before they are listed.
        let pieces = |size: usize, total: usize| {
            let count = total.div_ceil(size);
            let sizes = || (0..count).map(|i| size.min(total - i * size)).collect();
            (count == outputs).then(sizes)
        };
        let sizes: Vec<usize> = match op {
            "split" => {
                let size = usize::try_from(node.int("split_size")?)
                    .ok()
                    .filter(|&s| s > 0)?;
                pieces(size, total()?)?
            }
            "chunk" => {
                let count = usize::try_from(node.int("chunks")?)
                    .ok()
                    .filter(|&c| c > 0)?;
                let total = total()?;
                pieces(total.div_ceil(count).max(1), total)?
            }
            _ => {
                let sizes = node.ints("split_sizes")?;
                let sizes: Option<_> = sizes.iter().map(|&s| usize::try_from(s).ok()).collect();
                sizes?
            }
        };
        (sizes.len() == outputs).then(|| Step::new(Split { axis, sizes }, [Arg::named(input)]))
    }

    pub(super) fn slice(&self, node: &FileNode) -> Option<Step> {
        let end = match node.has("end") {
            false => None,
            true => Some(node.int("end")?).filter(|&end| end < i64::from(i32::MAX)),
        };
        let op = Slice {
            axis: node.int_or("dim", 0)?,
            start: node.int_or("start", 0)?,
            end,
            step: usize::try_from(node.int_or("step", 1)?)
                .ok()
                .filter(|&s| s > 0)?,
        };
        Some(Step::new(op, [self.value(node, "self")?]))
    }

    pub(super) fn narrow(&self, node: &FileNode) -> Option<Step> {
        let (start, length) = (node.int("start")?, node.int("length")?);
        let op = Slice {
            axis: node.int("dim")?,
            start,
            end: Some(start.checked_add(length)?),
            step: 1,
        };
        (start >= 0 && length >= 0).then(|| Some(Step::new(op, [self.value(node, "self")?])))?
    }

    /// One place along an axis, which disappears.
    pub(super) fn select(&self, node: &FileNode) -> Option<Vec<Step>> {
        let (axis, at) = (node.int("dim")?, node.int("index")?);
        let slice = Slice {
            axis,
            start: at,
            end: (at != -1).then_some(at.checked_add(1)?),
            step: 1,
        };
        let squeeze = Squeeze { axes: vec![axis] };
        Some(vec![
            Step::new(slice, [self.value(node, "self")?]),
            Step::new(squeeze, [Arg::Previous]),
        ])
    }

    pub(super) fn flatten(&self, node: &FileNode) -> Option<Step> {
        let op = Flatten {
            start: node.int_or("start_dim", 0)?,
            end: node.int_or("end_dim", -1)?,
        };
        let input = node.tensor("self")?;
        (self.rank(input)? > 0).then(|| Step::new(op, [Arg::named(input)]))
    }

    pub(super) fn reshape(&self, node: &FileNode) -> Option<Step> {
        let input = node.tensor("self")?;
        let sizes = node.sizes("size").or_else(|| node.sizes("shape"))?;
        let before = self.shape_of(input)?;
        let mut shape = Vec::with_capacity(sizes.len());
        for (i, size) in sizes.iter().enumerate() {
            shape.push(match size {
                // Zero means something else in the graph.
                Size::Int(0) => return None,
                Size::Int(n) => *n,
                Size::Name(name) => {
                    let size = self.file.sym_int_values.get(name)?;
                    match (size, before.get(i)) {
                        (SymInt::AsInt(0), _) => return None,
                        (SymInt::AsInt(n), _) => *n,
                        (size, Some(own)) if size.dim() == own.dim() => 0,
                        _ => -1,
                    }
                }
            });
        }
        let open = shape.iter().filter(|&&n| n == -1).count();
        (open <= 1).then(|| Step::new(Reshape { shape }, [Arg::named(input)]))
    }

    /// One dimension becomes several.
    pub(super) fn unflatten(&self, node: &FileNode) -> Option<Step> {
        let input = node.tensor("self")?;
        let before = self.shape_of(input)?;
        let axis = self.axis(node, "dim", before.len())?;
        let sizes = node.ints("sizes")?;
        let mut shape: Vec<i64> = vec![0; axis];
        shape.extend(&sizes);
        let known = |size: &SymInt| size.int().filter(|&n| n > 0);
        let rest: Vec<Option<i64>> = before[axis + 1..].iter().map(known).collect();
        let open = rest.iter().filter(|n| n.is_none()).count();
        let inferred = sizes.iter().filter(|&&n| n == -1).count();
        if sizes.contains(&0) || open + inferred > 1 {
            return None;
        }
        shape.extend(rest.into_iter().map(|n| n.unwrap_or(-1)));
        Some(Step::new(Reshape { shape }, [Arg::named(input)]))
    }

    pub(super) fn permute(&self, node: &FileNode) -> Option<Step> {
        let input = node.tensor("self")?;
        let rank = self.rank(input)?;
        let dims = node.ints("dims")?;
        let dims: Option<Vec<usize>> = dims.iter().map(|&dim| place(dim, rank)).collect();
        Some(Step::new(Permute { dims: dims? }, [Arg::named(input)]))
    }

    pub(super) fn transpose(&self, node: &FileNode) -> Option<Step> {
        let input = node.tensor("self")?;
        let rank = self.rank(input)?;
        let one = node.int("dim0").or(node.int("axis0"))?;
        let other = node.int("dim1").or(node.int("axis1"))?;
        let mut dims: Vec<usize> = (0..rank).collect();
        dims.swap(place(one, rank)?, place(other, rank)?);
        Some(Step::new(Permute { dims }, [Arg::named(input)]))
    }

    pub(super) fn turn(&self, node: &FileNode) -> Option<Step> {
        let input = node.tensor("self")?;
        let dims = (0..self.rank(input)?).rev().collect();
        Some(Step::new(Permute { dims }, [Arg::named(input)]))
    }

    pub(super) fn unsqueeze(&self, node: &FileNode) -> Option<Step> {
        let axes = vec![node.int("dim")?];
        Some(Step::new(Unsqueeze { axes }, [self.value(node, "self")?]))
    }

    /// Dimensions that are not of size one stay.
    pub(super) fn squeeze(&self, node: &FileNode) -> Option<Step> {
        let input = node.tensor("self")?;
        let shape = self.shape_of(input)?;
        let mut axes = Vec::new();
        for axis in node.ints("dim")? {
            if shape.get(place(axis, shape.len())?)?.int()? == 1 {
                axes.push(axis);
            }
        }
        Some(Step::new(Squeeze { axes }, [Arg::named(input)]))
    }

    pub(super) fn expand(&self, node: &FileNode) -> Option<Step> {
        if node.flag_or("implicit", false)? {
            return None;
        }
        let input = node.tensor("self")?;
        let before = self.shape_of(input)?;
        let sizes = node.sizes("size")?;
        let missing = sizes.len().checked_sub(before.len())?;
        let mut like = None;
        let mut shape = Vec::with_capacity(sizes.len());
        for (i, size) in sizes.iter().enumerate() {
            shape.push(match size {
                Size::Int(n) => *n,
                Size::Name(name) => {
                    let size = self.file.sym_int_values.get(name)?;
                    let own = i.checked_sub(missing).and_then(|i| before.get(i));
                    match (size, own) {
                        (SymInt::AsInt(n), _) => *n,
                        (size, Some(own)) if size.dim() == own.dim() => -1,
                        _ if i == 0 => {
                            like = Some(self.batch_of(name)?);
                            1
                        }
                        _ => return None,
                    }
                }
            });
        }
        let op = Expand {
            shape,
            batch_of: like.is_some(),
        };
        let inputs = std::iter::once(Arg::named(input)).chain(like.map(Arg::Named));
        Some(Step::new(op, inputs))
    }

    /// A value whose first dimension the symbolic size `name` is.
    fn batch_of(&self, name: &str) -> Option<String> {
        let maker = &self.nodes()[self.maker(name)?];
        let of = maker.tensor("self")?;
        let first = maker.aten()? == "sym_size.int" && maker.int("dim")? == 0;
        (first && self.fact(of).is_some()).then(|| of.to_owned())
    }

    pub(super) fn pad(&self, node: &FileNode) -> Option<Step> {
        let constant = node.text("mode").is_none_or(|mode| mode == "constant");
        let input = node.tensor("self")?;
        let amounts = node.ints("pad")?;
        let value = node.number_or("value", 0.0)?;
        let rank = self.rank(input)?;
        if !constant || amounts.len() % 2 != 0 || amounts.len() / 2 > rank {
            return None;
        }
        let mut padding = vec![[0, 0]; rank];
        for (i, pair) in amounts.chunks_exact(2).enumerate() {
            padding[rank - 1 - i] = [pair[0], pair[1]];
        }
        Some(Step::new(Pad { padding, value }, [Arg::named(input)]))
    }

    pub(super) fn mean(&self, node: &FileNode) -> Option<Step> {
        let input = node.tensor("self")?;
        if node.has("dtype") || !self.is_float(input) {
            return None;
        }
        let axes = match &node.ints("dim")?[..] {
            [] => (0..self.rank(input)? as i64).collect(),
            axes => axes.to_vec(),
        };
        let keep = node.flag_or("keepdim", false)?;
        Some(Step::new(Mean { axes, keep }, [Arg::named(input)]))
    }
}

/// An axis that counts from the end where it is negative, as a place.
fn place(axis: i64, rank: usize) -> Option<usize> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start).ok().filter(|&a| a < rank)
}
