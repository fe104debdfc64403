//! Sums of products of what flows into a layer, from which covariances follow.

use ndarray::{Array1, Array2};
use rankfold_compress::PairedStatistics;
use rankfold_graph::Op;
use rankfold_graph::ops::Conv;
use tch::{Kind, Tensor};

use crate::convert::{sizes, to_vec_f64};
use crate::error::{At, Result, TorchError};
use crate::ops::pad_trailing;

const STEP: &str = "summing covariances";

/// Rows of a product formed in one go hold at most this many numbers, 64 MB in f32.
const CHUNK: i64 = 1 << 24;

/// Images whose patches are taken at the same positions.
const SAME_OFFSET: i64 = 16;

/// A mean and a covariance for every group.
pub(crate) type MeansAndCovariances = (Vec<Array1<f64>>, Vec<Array2<f64>>);

/// Σ x and Σ x xᵀ of a layer's inputs, group by group: products in f32, sums over batches in f64.
#[derive(Debug)]
pub(crate) struct Moments {
    groups: Vec<Sums>,
    window: Window,
    samples: i64,
    /// Distance of the output positions that are taken.
    thinning: usize,
    /// Decides which positions are taken.
    turn: usize,
}

#[derive(Debug)]
struct Sums {
    sum: Tensor,
    products: Tensor,
    /// Σ x of the other network's vectors and Σ x x̂ᵀ.
    other: Option<(Tensor, Tensor)>,
}

impl Sums {
    fn new(length: i64, device: tch::Device, paired: bool) -> Result<Self> {
        let zeros = |size: &[i64]| Tensor::f_zeros(size, (Kind::Double, device)).at(STEP);
        let other = if paired {
            Some((zeros(&[length])?, zeros(&[length, length])?))
        } else {
            None
        };
        Ok(Self {
            sum: zeros(&[length])?,
            products: zeros(&[length, length])?,
            other,
        })
    }
}

/// How a layer cuts its input into vectors.
#[derive(Debug, Clone, PartialEq)]
enum Window {
    Features,
    Patches {
        conv: Conv,
        kernel: [usize; 2],
        channels: usize,
    },
}

impl Moments {
    /// Nothing summed yet, for a convolution of at most two spatial dimensions or a linear layer.
    pub(crate) fn new(node: &str, op: &Op, weight: &[usize], thinning: usize) -> Result<Self> {
        let window = match (op, weight) {
            (Op::Linear(_), &[_, _]) => Window::Features,
            (Op::Conv(conv), &[_, channels, width]) => Window::Patches {
                conv: flat(conv),
                kernel: [1, width],
                channels,
            },
            (Op::Conv(conv), &[_, channels, height, width]) => Window::Patches {
                conv: conv.clone(),
                kernel: [height, width],
                channels,
            },
            _ => {
                return Err(TorchError::WrongOp {
                    node: node.to_owned(),
                    expected: "a convolution over one or two dimensions or a linear layer",
                    op: op.kind(),
                });
            }
        };
        Ok(Self {
            groups: Vec::new(),
            window,
            samples: 0,
            thinning,
            turn: 0,
        })
    }

    /// Adds a batch of inputs.
    pub(crate) fn add(&mut self, input: &Tensor) -> Result<()> {
        self.each_block(&[input], |own, group, rows| {
            own.add_rows(group, &rows[0], None)
        })
    }

    /// Adds a batch of inputs `x` of one network together with those of another, `other`.
    pub(crate) fn add_pair(&mut self, x: &Tensor, other: &Tensor) -> Result<()> {
        self.each_block(&[x, other], |own, group, rows| {
            own.add_rows(group, &rows[1], Some(&rows[0]))
        })
    }

    /// Cuts inputs into vectors, those of all of them at the same places. Of every `thinning` ×
    /// `thinning` output positions one is taken, another for every few images.
    fn each_block(
        &mut self,
        inputs: &[&Tensor],
        mut add: impl FnMut(&mut Self, usize, &[Tensor]) -> Result<()>,
    ) -> Result<()> {
        let (conv, kernel, channels) = match self.window.clone() {
            Window::Features => {
                let rows = |input: &&Tensor| {
                    let features = input.size().last().copied().unwrap_or(1);
                    input.f_reshape([-1, features]).at(STEP)
                };
                let rows = inputs.iter().map(rows).collect::<Result<Vec<_>>>()?;
                return add(self, 0, &rows);
            }
            Window::Patches {
                conv,
                kernel,
                channels,
            } => (conv, kernel, channels),
        };
        let flat = inputs[0].dim() == 3;
        let thinning = if flat {
            [1, self.thinning]
        } else {
            [self.thinning; 2]
        };
        let image = |input: &&Tensor| {
            padded(
                &if flat {
                    input.f_unsqueeze(2).at(STEP)?
                } else {
                    input.shallow_clone()
                },
                &conv,
            )
        };
        let images = inputs.iter().map(image).collect::<Result<Vec<_>>>()?;
        let count = images[0].size()[0];
        let block = if self.thinning == 1 {
            count.max(1)
        } else {
            SAME_OFFSET
        };
        for start in (0..count).step_by(block as usize) {
            for group in 0..conv.groups {
                let cut = |image: &Tensor| {
                    let few = image
                        .f_narrow(0, start, block.min(count - start))
                        .at(STEP)?;
                    let own = few
                        .f_narrow(3, (group * channels) as i64, channels as i64)
                        .at(STEP)?;
                    patches(&own, &conv, kernel, thinning, self.turn)
                };
                let rows = images.iter().map(cut).collect::<Result<Option<Vec<_>>>>()?;
                if let Some(rows) = rows {
                    add(self, group, &rows)?;
                }
            }
            self.turn += 1;
        }
        Ok(())
    }

    /// Adds vectors, of which each is a row, and their products with those of the other network.
    fn add_rows(&mut self, group: usize, rows: &Tensor, other: Option<&Tensor>) -> Result<()> {
        let (count, length) = rows.size2().at(STEP)?;
        while self.groups.len() <= group {
            self.groups
                .push(Sums::new(length, rows.device(), other.is_some())?);
        }
        let own = &mut self.groups[group];
        let chunk = (CHUNK / length.max(1)).clamp(1, count.max(1));
        for start in (0..count).step_by(chunk as usize) {
            let cut = |rows: &Tensor| {
                let part = rows.f_narrow(0, start, chunk.min(count - start)).at(STEP)?;
                part.f_contiguous()
                    .at(STEP)?
                    .f_to_kind(Kind::Float)
                    .at(STEP)
            };
            let part = cut(rows)?;
            let total = |part: &Tensor| part.f_sum_dim_intlist(0, false, Kind::Double).at(STEP);
            let _ = own.sum.f_add_(&total(&part)?).at(STEP)?;
            let products = part.f_tr().at(STEP)?.f_mm(&part).at(STEP)?;
            let _ = own.products.f_add_(&products).at(STEP)?;
            if let (Some(other), Some(sums)) = (other, &mut own.other) {
                let other = cut(other)?;
                let products = other.f_tr().at(STEP)?.f_mm(&part).at(STEP)?;
                let _ = sums.0.f_add_(&total(&other)?).at(STEP)?;
                let _ = sums.1.f_add_(&products).at(STEP)?;
            }
        }
        if group == 0 {
            self.samples += count;
        }
        Ok(())
    }

    /// Vectors seen per group.
    pub(crate) fn samples(&self) -> usize {
        self.samples as usize
    }

    /// Mean and centred covariance of every group, in the order of the kernel.
    pub(crate) fn finish(&self) -> Result<MeansAndCovariances> {
        let (mut means, mut covariances) = (Vec::new(), Vec::new());
        for sums in &self.groups {
            let mean = self.mean(&sums.sum)?;
            covariances.push(self.matrix(&centred(&sums.products, &mean, &mean, self.samples)?)?);
            means.push(self.vector(&mean)?);
        }
        Ok((means, covariances))
    }

    /// The same of two networks: of x̂, and of the blend z = (x + x̂) / 2 with x̂.
    pub(crate) fn paired(&self) -> Result<PairedStatistics> {
        let (mean, covariance) = self.finish()?;
        let (mut blend_mean, mut cross) = (Vec::new(), Vec::new());
        for (sums, own) in self.groups.iter().zip(&covariance) {
            let Some((sum, products)) = &sums.other else {
                return Err(TorchError::Empty { what: "pair" });
            };
            let (x, given) = (self.mean(sum)?, self.mean(&sums.sum)?);
            let with_other = self.matrix(&centred(products, &x, &given, self.samples)?)?;
            cross.push((with_other + own) * 0.5);
            let blend = x.f_add(&given).at(STEP)?.f_mul_scalar(0.5).at(STEP)?;
            blend_mean.push(self.vector(&blend)?);
        }
        Ok(PairedStatistics {
            mean,
            covariance,
            blend_mean,
            cross,
        })
    }

    fn mean(&self, sum: &Tensor) -> Result<Tensor> {
        sum.f_div_scalar(self.samples.max(1)).at(STEP)
    }

    /// A vector over patches in the order of the kernel.
    fn vector(&self, vector: &Tensor) -> Result<Array1<f64>> {
        let sorted = match self.order(vector.device())? {
            None => vector.shallow_clone(),
            Some(order) => vector.f_index_select(0, &order).at(STEP)?,
        };
        Ok(Array1::from_vec(to_vec_f64(&sorted)?))
    }

    /// A matrix over pairs of patches in the order of the kernel.
    fn matrix(&self, matrix: &Tensor) -> Result<Array2<f64>> {
        let sorted = match self.order(matrix.device())? {
            None => matrix.shallow_clone(),
            Some(order) => {
                let rows = matrix.f_index_select(0, &order).at(STEP)?;
                rows.f_index_select(1, &order).at(STEP)?
            }
        };
        let (rows, columns) = sorted.size2().at(STEP)?;
        let values = to_vec_f64(&sorted)?;
        Array2::from_shape_vec((rows as usize, columns as usize), values).map_err(|_| {
            TorchError::Empty {
                what: "calibrate on",
            }
        })
    }

    /// Where in a patch (row, column, channel) each number of the kernel's order (channel, row, column) is.
    fn order(&self, device: tch::Device) -> Result<Option<Tensor>> {
        let Window::Patches {
            kernel: [height, width],
            channels,
            ..
        } = self.window
        else {
            return Ok(None);
        };
        let taps = height * width;
        let place = |i: usize| (i % taps * channels + i / taps) as i64;
        let order: Vec<i64> = (0..taps * channels).map(place).collect();
        Tensor::f_from_slice(&order)
            .at(STEP)?
            .f_to(device)
            .at(STEP)
            .map(Some)
    }
}

/// Σ a bᵀ / n − E[a] E[b]ᵀ.
fn centred(products: &Tensor, a: &Tensor, b: &Tensor, samples: i64) -> Result<Tensor> {
    let mean = products.f_div_scalar(samples.max(1)).at(STEP)?;
    mean.f_sub(&a.f_outer(b).at(STEP)?).at(STEP)
}

/// A one-dimensional convolution as a two-dimensional one of height one.
fn flat(conv: &Conv) -> Conv {
    let two = |one: &[usize]| [&[1], one].concat();
    Conv {
        stride: two(&conv.stride),
        dilation: two(&conv.dilation),
        padding: [&[[0, 0]], &conv.padding[..]].concat(),
        ..conv.clone()
    }
}

/// The input with its zeros around it, as [batch, height, width, channels] in that order in memory.
fn padded(image: &Tensor, conv: &Conv) -> Result<Tensor> {
    let last = image.f_permute([0, 2, 3, 1]).at(STEP)?;
    let [[top, bottom], [left, right]] = [0, 1].map(|i| conv.padding[i].map(|n| n as i64));
    if [top, bottom, left, right] == [0; 4] {
        return last.f_contiguous().at(STEP);
    }
    let around = [[top, bottom], [left, right], [0, 0]];
    pad_trailing(&last, &around, 0.0)
        .at(STEP)?
        .f_contiguous()
        .at(STEP)
}

/// The patches at every `thinning`-th output position, from an offset that changes with the turn; none
/// where the output is so small that it has no such position.
fn patches(
    image: &Tensor,
    conv: &Conv,
    kernel: [usize; 2],
    thinning: [usize; 2],
    turn: usize,
) -> Result<Option<Tensor>> {
    let size = image.size();
    let stride = image.stride();
    let mut counts = [0i64; 2];
    let mut first = [0i64; 2];
    // Goes through all pairs of a square thinning.
    let phase = [
        turn % thinning[0],
        (turn / thinning[0] + turn) % thinning[1],
    ];
    for i in 0..2 {
        let extent = (conv.dilation[i] * (kernel[i] - 1) + 1) as i64;
        let outputs = (size[i + 1] - extent) / conv.stride[i] as i64 + 1;
        let thin = thinning[i] as i64;
        first[i] = (phase[i] as i64).min((outputs - 1).max(0));
        counts[i] = (outputs - first[i] + thin - 1) / thin;
    }
    if counts.contains(&0) || size[0] == 0 {
        return Ok(None);
    }
    let step = |i: usize| stride[i + 1] * (conv.stride[i] * thinning[i]) as i64;
    let tap = |i: usize| stride[i + 1] * conv.dilation[i] as i64;
    let from = |i: usize| first[i] * conv.stride[i] as i64;
    let corner = image.f_narrow(1, from(0), size[1] - from(0)).at(STEP)?;
    let corner = corner.f_narrow(2, from(1), size[2] - from(1)).at(STEP)?;
    let kernel = sizes(&kernel);
    let view = corner
        .f_as_strided(
            [size[0], counts[0], counts[1], kernel[0], kernel[1], size[3]],
            [stride[0], step(0), step(1), tap(0), tap(1), stride[3]],
            None,
        )
        .at(STEP)?;
    let length = kernel[0] * kernel[1] * size[3];
    Ok(Some(view.f_reshape([-1, length]).at(STEP)?))
}
