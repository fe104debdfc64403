//! Sizes that are only known when the program runs, as expressions of those of its inputs.

use rankfold_graph::ops::{Conv, ConvTranspose};
use rankfold_graph::{Dim, Op, ValueId};

use super::Site;
use crate::pt2::Pt2Fault;
use crate::pt2::schema::{SymInt, TensorMeta};
use crate::pt2::write::Writer;

impl Writer<'_> {
    /// What a value is; `open` gives the sizes that the graph does not know.
    pub(in crate::pt2) fn meta(
        &self,
        id: ValueId,
        open: &dyn Fn(usize) -> Option<SymInt>,
    ) -> Option<TensorMeta> {
        let fact = self.graph.fact(id);
        let shape = fact.shape.as_ref()?.iter().enumerate();
        let size = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(n) => i64::try_from(*n).ok().map(SymInt::AsInt),
            Dim::Symbol(name) => self.symbols.get(&**name).cloned().or_else(|| open(axis)),
            Dim::Unknown(()) => open(axis),
        };
        let sizes = shape.map(size).collect::<Option<_>>()?;
        TensorMeta::contiguous(fact.dtype, sizes, self.device.clone())
    }

    /// Sizes of an input of the node.
    pub(super) fn sizes_of(&self, site: &Site<'_>, input: usize) -> Result<Vec<SymInt>, Pt2Fault> {
        let known = site.inputs.get(input).and_then(|name| {
            let meta = self.metas.get(name).or_else(|| self.file_meta(name))?;
            Some(meta.sizes.clone())
        });
        let id = site.node.inputs.get(input);
        let known = known.or_else(|| Some(self.meta(*id?, &|_| None)?.sizes));
        known.ok_or_else(|| self.no_form(site.node, "a size of its input is not known"))
    }

    /// The size of dimension `axis` of the node's first output.
    pub(super) fn open_size(&self, site: &Site<'_>, axis: usize) -> Option<SymInt> {
        let input = self.sizes_of(site, 0).ok()?;
        let own = || input.get(axis).cloned();
        match &site.node.op {
            Op::Conv(conv) => match axis.checked_sub(2) {
                None => own(),
                Some(i) => self.conv_size(conv, i, own()?),
            },
            Op::ConvTranspose(conv) => match axis.checked_sub(2) {
                None => own(),
                Some(i) => self.conv_transpose_size(conv, i, own()?),
            },
            Op::MaxPool(pool) => match axis.checked_sub(2) {
                None => own(),
                Some(i) => {
                    let extent = extent(pool.kernel[i], pool.dilation[i])?;
                    window(own()?, extent, pool.stride[i], pool.padding[i], pool.ceil)
                }
            },
            Op::AvgPool(pool) => match axis.checked_sub(2) {
                None => own(),
                Some(i) => {
                    let extent = pool.kernel[i];
                    window(own()?, extent, pool.stride[i], pool.padding[i], pool.ceil)
                }
            },
            Op::Linear(_) | Op::Activation(_) | Op::BatchNorm(_) | Op::LayerNorm(_) => own(),
            Op::GroupNorm(_) | Op::LocalResponseNorm(_) | Op::BinaryScalar(_) => own(),
            Op::Softmax(_) | Op::Dropout(_) | Op::AdaptiveAvgPool(_) => own(),
            Op::Quantize(_) => own(),
            Op::AdaptiveMaxPool(_) | Op::Split(_) => own(),
            Op::Binary(_) => self.broadcast(site, axis),
            Op::Pad(pad) => {
                let [before, after] = *pad.padding.get(axis)?;
                own()?.plus(before.checked_add(after)?)
            }
            Op::Permute(permute) => input.get(*permute.dims.get(axis)?).cloned(),
            Op::Flatten(flatten) => {
                let rank = input.len() as i64;
                let place = |a: i64| (if a < 0 { a + rank } else { a }) as usize;
                let (start, end) = (place(flatten.start), place(flatten.end));
                match axis {
                    _ if axis < start => own(),
                    _ if axis == start => product(input.get(start..=end)?),
                    _ => input.get(axis + end - start).cloned(),
                }
            }
            Op::Reshape(reshape) => match reshape.shape.get(axis)? {
                0 => own(),
                _ => {
                    // What is left of the elements for the one open dimension.
                    let taken_over = |i: usize| reshape.shape.get(i) == Some(&0);
                    let rest: Vec<SymInt> = (0..input.len())
                        .filter(|&i| !taken_over(i))
                        .map(|i| input[i].clone())
                        .collect();
                    let mut given = reshape.shape.iter().filter(|&&n| n > 0);
                    let given = given.try_fold(1i64, |product, &n| product.checked_mul(n))?;
                    product(&rest)?.floor_div(given)
                }
            },
            Op::Concat(concat) => {
                let rank = input.len() as i64;
                let along = if concat.axis < 0 {
                    concat.axis + rank
                } else {
                    concat.axis
                };
                if along != axis as i64 {
                    return own();
                }
                let mut sum = SymInt::AsInt(0);
                for i in 0..site.inputs.len() {
                    sum = sum.sum(self.sizes_of(site, i).ok()?.get(axis)?)?;
                }
                Some(sum)
            }
            Op::Embedding(_) => own(),
            Op::Expand(expand) if axis == 0 && expand.batch_of => {
                self.sizes_of(site, 1).ok()?.first().cloned()
            }
            Op::Expand(expand) => {
                let missing = expand.shape.len().checked_sub(input.len())?;
                input.get(axis.checked_sub(missing)?).cloned()
            }
            Op::Attention(_) => own(),
            Op::MatMul(_) => {
                let other = self.sizes_of(site, 1).ok()?;
                let rank = input.len().max(other.len());
                match rank - 1 - axis {
                    0 => other.last().cloned(),
                    1 => input.get(input.len() - 2).cloned(),
                    _ => self.broadcast(site, axis),
                }
            }
            Op::Mean(mean) if mean.keep => own(),
            Op::Mean(mean) => {
                let rank = input.len() as i64;
                let gone = |i: usize| mean.axes.iter().any(|a| a.rem_euclid(rank) == i as i64);
                let left = (0..input.len()).filter(|&i| !gone(i));
                input.get(left.into_iter().nth(axis)?).cloned()
            }
            Op::Squeeze(squeeze) => {
                let rank = input.len() as i64;
                let gone = |i: usize| squeeze.axes.iter().any(|a| a.rem_euclid(rank) == i as i64);
                let left = (0..input.len()).filter(|&i| !gone(i));
                input.get(left.into_iter().nth(axis)?).cloned()
            }
            Op::Unsqueeze(unsqueeze) => {
                let rank = (input.len() + unsqueeze.axes.len()) as i64;
                let new = |i: usize| {
                    unsqueeze
                        .axes
                        .iter()
                        .any(|a| a.rem_euclid(rank) == i as i64)
                };
                input.get((0..axis).filter(|&i| !new(i)).count()).cloned()
            }
            Op::Slice(slice) => {
                let rank = input.len() as i64;
                if slice.axis.rem_euclid(rank) != axis as i64 {
                    return own();
                }
                match (slice.start, slice.end, slice.step) {
                    (start, None, step) if start >= 0 => {
                        let rest = own()?.plus(-start)?;
                        rest.plus(step as i64 - 1)?.floor_div(step as i64)
                    }
                    _ => None,
                }
            }
            Op::Constant(_) | Op::Opaque(_) => None,
        }
    }

    /// The size of an axis of an elementwise op's result.
    fn broadcast(&self, site: &Site<'_>, axis: usize) -> Option<SymInt> {
        let shapes = [self.sizes_of(site, 0).ok()?, self.sizes_of(site, 1).ok()?];
        let rank = shapes.iter().map(Vec::len).max()?;
        let at = |shape: &Vec<SymInt>| {
            let place = axis.checked_sub(rank - shape.len())?;
            shape
                .get(place)
                .filter(|size| size.int() != Some(1))
                .cloned()
        };
        at(&shapes[0]).or_else(|| at(&shapes[1]))
    }

    fn conv_size(&self, conv: &Conv, i: usize, input: SymInt) -> Option<SymInt> {
        let kernel = *self.graph.weights().get(&conv.weight)?.shape().get(i + 2)?;
        let extent = extent(kernel, conv.dilation[i])?;
        window(input, extent, conv.stride[i], conv.padding[i], false)
    }

    fn conv_transpose_size(&self, conv: &ConvTranspose, i: usize, input: SymInt) -> Option<SymInt> {
        let kernel = *self.graph.weights().get(&conv.weight)?.shape().get(i + 2)?;
        let extent = extent(kernel, conv.dilation[i])?.checked_add(conv.output_padding[i])?;
        let cut = conv.padding[i][0].checked_add(conv.padding[i][1])?;
        let full = input
            .plus(-1)?
            .times(&SymInt::AsInt(conv.stride[i] as i64))?;
        full.plus(difference(extent, cut)?)
    }
}

/// How far a window of `kernel` taps reaches.
fn extent(kernel: usize, dilation: usize) -> Option<usize> {
    kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)
}

fn difference(a: usize, b: usize) -> Option<i64> {
    i64::try_from(a).ok()?.checked_sub(i64::try_from(b).ok()?)
}

/// How many windows of `extent` there are.
fn window(
    input: SymInt,
    extent: usize,
    stride: usize,
    padding: [usize; 2],
    ceil: bool,
) -> Option<SymInt> {
    let spare = difference(padding[0].checked_add(padding[1])?, extent)?;
    // The window that begins in the padding behind the input does not count, which no expression
    // without a case says.
    let round = match ceil {
        true if stride > 1 && padding[1] + 1 >= stride => return None,
        true => stride as i64 - 1,
        false => 0,
    };
    input
        .plus(spare.checked_add(round)?)?
        .floor_div(stride as i64)?
        .plus(1)
}

fn product(sizes: &[SymInt]) -> Option<SymInt> {
    let one = SymInt::AsInt(1);
    sizes
        .iter()
        .try_fold(one, |product, size| size.times(&product))
}
