//! Statistics of a model's layers from inputs without labels.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use rankfold_compress::{LayerStatistics, Statistics};
use rankfold_data::{Batch, DataError};
use rankfold_graph::{Graph, Node, Op};
use tch::{Kind, Tensor};

use crate::batch::batch_inputs;
use crate::convert::{to_vec_f32, to_vec_f64};
use crate::device::Device;
use crate::error::{At, Result, TorchError};
use crate::evaluate::log_probabilities;
use crate::executor::{Executor, Options, Scores, Tapped};
use crate::moments::Moments;

const STEP: &str = "taking gradients";

/// Which gradients tell how much an error in an output channel matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// None are taken.
    None,
    /// Of v · z, where z are the model's centred class scores and v is drawn from a standard normal
    /// distribution: the Gauss–Newton metric of the squared error of the scores.
    GaussNewton,
    /// Of −log p(ŷ|x), where ŷ is drawn from the model's own prediction: the Fisher metric.
    Fisher,
}

/// How statistics are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrateOptions {
    /// Where.
    pub device: Device,
    /// Output positions of an image that are looked at, about; large images have many more and close
    /// ones differ little. They lie on a grid whose offset changes every few images.
    pub positions: usize,
    /// Layers whose vectors are longer than this are left out: a covariance takes the square of it.
    pub max_inputs: usize,
    /// Which gradients are taken.
    pub metric: Metric,
    /// Images whose gradients are taken.
    pub metric_images: usize,
    /// Decides what is drawn.
    pub seed: u64,
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            positions: 64,
            max_inputs: 4608,
            metric: Metric::GaussNewton,
            metric_images: 512,
            seed: 0,
        }
    }
}

/// Second moments at the named convolutions and linear layers, in one pass over the batches. Layers
/// whose vectors are too long are not in it.
pub fn calibrate(
    graph: &Graph,
    layers: &[String],
    options: &CalibrateOptions,
    batches: impl IntoIterator<Item = std::result::Result<Batch, DataError>>,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Statistics> {
    let mut layers = watched(graph, layers, options)?;
    let names: Vec<String> = layers.keys().cloned().collect();
    let names = || names.iter().map(String::as_str);
    let run = |fold: bool| Options {
        device: options.device,
        fold,
        join: false,
        ..Options::default()
    };
    let forward = Executor::new(graph, run(true))?;
    let taps = forward.input_taps(names())?;
    let mut gradients = match options.metric {
        Metric::None => None,
        _ => Some(Gradients::new(graph, names(), options, run(false))?),
    };
    let mut images = 0;
    for batch in batches {
        let batch = batch?;
        let inputs = batch_inputs(&forward, &batch)?;
        forward.run_with(&inputs, &taps, |tapped| {
            let (Some(layer), Some(input)) = (layers.get_mut(tapped.node), tapped.inputs.first())
            else {
                return Ok(());
            };
            layer.add(input)
        })?;
        if let Some(gradients) = &mut gradients {
            gradients.add(&inputs, options.metric_images.saturating_sub(images))?;
        }
        images += batch.len();
        if progress(images).is_break() {
            return Err(TorchError::Stopped);
        }
    }
    if images == 0 {
        return Err(TorchError::Empty {
            what: "calibrate on",
        });
    }
    let mut statistics = Statistics::new();
    for (name, layer) in layers {
        let (mean, covariance) = layer.finish()?;
        let metric = gradients.as_ref().map(|gradients| gradients.metric(&name));
        let output_metric = metric.transpose()?.flatten();
        let samples = layer.samples();
        statistics.insert(
            name,
            LayerStatistics {
                mean,
                covariance,
                output_metric,
                samples,
            },
        );
    }
    Ok(statistics)
}

/// The layers to look at, without those whose vectors are too long.
fn watched(
    graph: &Graph,
    names: &[String],
    options: &CalibrateOptions,
) -> Result<BTreeMap<String, Moments>> {
    let mut layers = BTreeMap::new();
    for name in names {
        let unknown = || TorchError::UnknownNode { node: name.clone() };
        let node = graph.node(name).ok_or_else(unknown)?;
        if let Some(moments) = watch(graph, node, options)? {
            layers.insert(name.clone(), moments);
        }
    }
    Ok(layers)
}

/// Sums for a layer; none where its vectors are too long.
pub(crate) fn watch(
    graph: &Graph,
    node: &Node,
    options: &CalibrateOptions,
) -> Result<Option<Moments>> {
    let weights = node.op.weights();
    let shape = weights
        .first()
        .and_then(|(_, weight)| graph.weights().get(weight));
    let shape = shape.map_or(&[][..], |tensor| tensor.shape());
    let thinning = thinning(graph, node, options.positions);
    let moments = Moments::new(&node.name, &node.op, shape, thinning)?;
    let length = shape.iter().skip(1).product::<usize>();
    Ok((length <= options.max_inputs).then_some(moments))
}

/// The distance at which output positions are taken so that about as many as asked for are.
fn thinning(graph: &Graph, node: &Node, positions: usize) -> usize {
    let Op::Conv(conv) = &node.op else { return 1 };
    let shape = graph.fact(node.output()).shape.as_ref();
    let sizes = shape.map(|s| s.iter().skip(2).filter_map(rankfold_graph::Dim::fixed));
    let all: usize = sizes.map_or(1, Iterator::product);
    let ratio = all as f64 / positions.max(1) as f64;
    let distance = ratio.powf(1.0 / conv.stride.len() as f64);
    // A hair more, so that 4 does not become 3 by rounding.
    ((distance + 1e-9).floor() as usize).max(1)
}

/// Sums of g gᵀ over images and positions, g the gradient at a layer's output.
struct Gradients {
    executor: Executor,
    taps: crate::executor::Taps,
    metric: Metric,
    random: ChaCha8Rng,
    /// Linear layers, whose channels are the last dimension however many there are.
    linear: HashSet<String>,
    sums: BTreeMap<String, Tensor>,
    images: usize,
}

impl Gradients {
    fn new<'a>(
        graph: &Graph,
        layers: impl IntoIterator<Item = &'a str> + Clone,
        options: &CalibrateOptions,
        run: Options,
    ) -> Result<Self> {
        let executor = Executor::new(graph, run)?;
        let taps = executor.taps(layers.clone())?;
        let is_linear = |name: &&str| {
            let node = graph.node(name);
            node.is_some_and(|node| matches!(node.op, Op::Linear(_)))
        };
        let linear = layers.into_iter().filter(is_linear).map(str::to_owned);
        let random = ChaCha8Rng::seed_from_u64(options.seed);
        let metric = options.metric;
        Ok(Self {
            executor,
            taps,
            metric,
            random,
            linear: linear.collect(),
            sums: BTreeMap::new(),
            images: 0,
        })
    }

    /// Adds the first `most` inputs of a batch.
    fn add(&mut self, inputs: &[Tensor], most: usize) -> Result<()> {
        let count = inputs
            .first()
            .and_then(|t| t.size().first().copied())
            .unwrap_or(0);
        let count = count.min(most as i64);
        if count == 0 {
            return Ok(());
        }
        let first = |t: &Tensor| t.f_narrow(0, 0, count).at(STEP);
        let inputs = inputs.iter().map(first).collect::<Result<Vec<_>>>()?;
        let mut made: Vec<(String, Tensor)> = Vec::new();
        let outputs = self
            .executor
            .run_recording(&inputs, &self.taps, |tapped: Tapped<'_>| {
                if let Some(output) = tapped.outputs.first() {
                    let mut handle = output.shallow_clone();
                    if !handle.requires_grad() {
                        handle = handle.f_requires_grad_(true).at(STEP)?;
                    }
                    made.push((tapped.node.to_owned(), handle));
                }
                Ok(())
            })?;
        let Some(scores) = outputs.first().filter(|scores| scores.dim() == 2) else {
            return Ok(());
        };
        let target = tch::with_grad(|| self.target(scores))?;
        let values: Vec<&Tensor> = made.iter().map(|(_, output)| output).collect();
        let gradients = Tensor::f_run_backward(&[&target], &values, false, false).at(STEP)?;
        let _guard = tch::no_grad_guard();
        for ((name, _), gradient) in made.into_iter().zip(gradients) {
            // A layer that the scores do not depend on has no gradient.
            if !gradient.defined() {
                continue;
            }
            let last = self.linear.contains(&name);
            let rows = channels_in_rows(&gradient, last).at(STEP)?;
            let products = rows.f_tr().at(STEP)?.f_mm(&rows).at(STEP)?;
            let products = products.f_to_kind(Kind::Double).at(STEP)?;
            match self.sums.get_mut(&name) {
                Some(sum) => {
                    let _ = sum.f_add_(&products).at(STEP)?;
                }
                None => {
                    self.sums.insert(name, products);
                }
            }
        }
        self.images += count as usize;
        Ok(())
    }

    /// The scalar, a sum over images, whose gradients are taken.
    fn target(&mut self, scores: &Tensor) -> Result<Tensor> {
        let kind = self.executor.scores();
        let log = match (self.metric, kind) {
            (Metric::GaussNewton, Scores::Logits) => scores.shallow_clone(),
            _ => log_probabilities(scores, kind)?,
        };
        let (images, classes) = scores.size2().at(STEP)?;
        let chosen = match self.metric {
            Metric::Fisher => {
                let draw = Uniform::new(0.0f32, 1.0)
                    .map_err(|_| TorchError::Empty { what: "draw from" })?;
                let probabilities = to_vec_f32(&log.f_detach().at(STEP)?.f_exp().at(STEP)?)?;
                let rows = probabilities.chunks(classes as usize);
                let labels: Vec<i64> = rows
                    .map(|row| {
                        let mut left = draw.sample(&mut self.random) * row.iter().sum::<f32>();
                        let hit = row.iter().position(|p| {
                            left -= p;
                            left < 0.0
                        });
                        hit.unwrap_or(row.len() - 1) as i64
                    })
                    .collect();
                let labels = Tensor::f_from_slice(&labels)
                    .at(STEP)?
                    .f_unsqueeze(1)
                    .at(STEP)?;
                let labels = labels.f_to(scores.device()).at(STEP)?;
                return log
                    .f_gather(1, &labels, false)
                    .at(STEP)?
                    .f_sum(Kind::Float)
                    .at(STEP)?
                    .f_neg()
                    .at(STEP);
            }
            Metric::GaussNewton | Metric::None => {
                let count = (images * classes) as usize;
                let drawn: Vec<f32> = StandardNormal
                    .sample_iter(&mut self.random)
                    .take(count)
                    .collect();
                let drawn = Tensor::f_from_slice(&drawn)
                    .at(STEP)?
                    .f_reshape([images, classes])
                    .at(STEP)?;
                let mean = drawn.f_mean_dim(1, true, None).at(STEP)?;
                drawn
                    .f_sub(&mean)
                    .at(STEP)?
                    .f_to(scores.device())
                    .at(STEP)?
            }
        };
        log.f_mul(&chosen).at(STEP)?.f_sum(Kind::Float).at(STEP)
    }

    /// Gᵢⱼ = E[Σ_positions gᵢ gⱼ]; none for a layer without gradients.
    fn metric(&self, layer: &str) -> Result<Option<Array2<f64>>> {
        let Some(sum) = self.sums.get(layer) else {
            return Ok(None);
        };
        let mean = sum.f_div_scalar(self.images as f64).at(STEP)?;
        let channels = mean.size2().at(STEP)?.0 as usize;
        Ok(Array2::from_shape_vec((channels, channels), to_vec_f64(&mean)?).ok())
    }
}

/// A gradient as a matrix with a row for every position and a column for every channel, which is the last
/// dimension or the second.
fn channels_in_rows(gradient: &Tensor, last: bool) -> std::result::Result<Tensor, tch::TchError> {
    let gradient = match last {
        true => gradient.shallow_clone(),
        false => gradient.f_movedim_int(1, -1)?,
    };
    gradient.f_reshape([-1, gradient.size().last().copied().unwrap_or(1)])
}
