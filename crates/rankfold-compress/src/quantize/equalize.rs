//! Channels scaled to alike ranges, layer by layer, without a change of what the network computes.
//!
//! Between two layers with nothing but a homogeneous function between them (f(s·x) = s·f(x) for s > 0),
//! what the first makes in a channel may be divided by any s > 0 if the second multiplies by it. A value
//! has one scale for all its channels, a kernel one for every output channel, so that channels much
//! smaller than the largest lose bits. A depthwise layer takes any s at no cost, since its input channels
//! are its output channels; for another, s = √(range of the value / range of the kernel) shares the burden
//! between the two. That is a rule of thumb: whether it helps is measured.

use rankfold_graph::ops::Activation;
use rankfold_graph::{Graph, Node, Op, Tensor, TensorError, WeightName};

use super::sites::only_taker;
use super::weights::largest;
use crate::error::CompressError;
use crate::probe::Observations;

/// The least that a channel is divided by, relative to the most.
const LEAST: f32 = 1e-6;

/// The graph with channels equalised; none where there is no pair of layers to do it between.
pub(super) fn equalized(
    graph: &Graph,
    observations: &Observations,
) -> Result<Option<Graph>, CompressError> {
    let mut level = graph.clone();
    let mut changed = false;
    for first in graph.nodes() {
        let Some(pair) = Pair::of(graph, first, observations) else {
            continue;
        };
        pair.apply(&mut level)?;
        changed = true;
    }
    Ok(changed.then_some(level))
}

/// Two layers, and what every channel between them is divided by.
struct Pair<'a> {
    first: Ends<'a>,
    second: Ends<'a>,
    divisors: Vec<f32>,
}

/// The weights of a layer.
struct Ends<'a> {
    kernel: &'a WeightName,
    bias: Option<&'a WeightName>,
    groups: usize,
}

impl<'a> Ends<'a> {
    /// Those of a convolution, or of a linear layer over rows of a matrix, that no other layer shares.
    fn of(graph: &'a Graph, node: &'a Node) -> Option<Self> {
        let (kernel, bias, groups) = match &node.op {
            Op::Conv(op) => (&op.weight, op.bias.as_ref(), op.groups),
            Op::Linear(op) => (&op.weight, op.bias.as_ref(), 1),
            _ => return None,
        };
        let rank = graph.fact(node.output()).shape.as_ref()?.len();
        let channels_second = matches!(node.op, Op::Conv(_)) || rank == 2;
        let uses = graph.weight_uses();
        let own = |name: &WeightName| uses.get(&**name) == Some(&1);
        (channels_second && own(kernel) && bias.is_none_or(own)).then_some(Self {
            kernel,
            bias,
            groups,
        })
    }

    /// Numbers of the kernel, shaped [out, in / groups, …].
    fn numbers<'g>(&self, graph: &'g Graph) -> Option<(&'g [usize], Vec<f32>)> {
        let tensor = graph.weights().get(self.kernel)?;
        Some((tensor.shape(), tensor.to_f32().ok()?.into_owned()))
    }
}

impl<'a> Pair<'a> {
    fn of(graph: &'a Graph, first: &'a Node, observations: &Observations) -> Option<Self> {
        let ends = Ends::of(graph, first)?;
        let mut value = first.output();
        let mut known = observations.get(&graph.value(value).name);
        let second = loop {
            let taker = only_taker(graph, value)?;
            if !is_homogeneous(&taker.op) {
                break taker;
            }
            value = taker.output();
            known = observations.get(&graph.value(value).name).or(known);
        };
        let other = Ends::of(graph, second)?;
        let ranges = &known?.channels;
        let divisors = divisors(graph, &other, ranges)?;
        Some(Self {
            first: ends,
            second: other,
            divisors,
        })
    }

    fn apply(&self, graph: &mut Graph) -> Result<(), CompressError> {
        let divide = |numbers: &mut [f32]| {
            let rows = numbers.len() / self.divisors.len().max(1);
            for (row, divisor) in numbers.chunks_mut(rows.max(1)).zip(&self.divisors) {
                row.iter_mut().for_each(|number| *number /= divisor);
            }
        };
        change(graph, self.first.kernel, divide)?;
        if let Some(bias) = self.first.bias {
            change(graph, bias, divide)?;
        }
        let Some((shape, _)) = self.second.numbers(graph) else {
            return Ok(());
        };
        let channel = input_channel(shape, self.second.groups);
        change(graph, self.second.kernel, |numbers| {
            for (i, number) in numbers.iter_mut().enumerate() {
                *number *= self.divisors[channel(i)];
            }
        })
    }
}

fn divisors(graph: &Graph, second: &Ends<'_>, ranges: &[f32]) -> Option<Vec<f32>> {
    let (shape, numbers) = second.numbers(graph)?;
    let channels = shape.get(1)?.checked_mul(second.groups)?;
    if channels != ranges.len() || channels < 2 {
        return None;
    }
    let depthwise = second.groups == channels;
    let columns = match depthwise {
        true => vec![1.0; channels],
        false => by_input_channel(shape, &numbers, second.groups, channels),
    };
    let ratio = |(&range, column): (&f32, f32)| match (range > 0.0 && column > 0.0, depthwise) {
        (false, _) => None,
        (true, true) => Some(range),
        (true, false) => Some((range / column).sqrt()),
    };
    let ratios: Vec<Option<f32>> = ranges.iter().zip(columns).map(ratio).collect();
    let most = ratios.iter().flatten().copied().fold(0.0, f32::max);
    let usable = most.is_finite() && most > 0.0;
    let divisor = |ratio: Option<f32>| ratio.map_or(1.0, |ratio| (ratio / most).max(LEAST));
    usable.then(|| ratios.into_iter().map(divisor).collect())
}

/// The largest magnitude of what every input channel is multiplied by.
fn by_input_channel(shape: &[usize], numbers: &[f32], groups: usize, channels: usize) -> Vec<f32> {
    if groups == 1 {
        return largest(shape, numbers, 1);
    }
    let channel = input_channel(shape, groups);
    let mut most = vec![0.0f32; channels];
    for (i, number) in numbers.iter().enumerate() {
        let own = &mut most[channel(i)];
        *own = own.max(number.abs());
    }
    most
}

/// From an element of a kernel to the input channel that it multiplies.
fn input_channel(shape: &[usize], groups: usize) -> impl Fn(usize) -> usize + use<> {
    let (outputs, inputs) = (shape[0], shape[1]);
    let taps: usize = shape[2..].iter().product();
    let group_outputs = (outputs / groups).max(1);
    move |i| {
        let (output, input) = (i / (inputs * taps), i / taps % inputs);
        output / group_outputs * inputs + input
    }
}

fn change(
    graph: &mut Graph,
    name: &WeightName,
    change: impl FnOnce(&mut [f32]),
) -> Result<(), CompressError> {
    let bad = |source: TensorError| CompressError::Code {
        weight: name.to_string(),
        source: source.into(),
    };
    let Some(tensor) = graph.weights().get(name) else {
        return Ok(());
    };
    let mut numbers = tensor.to_f32().map_err(bad)?.into_owned();
    change(&mut numbers);
    let tensor = Tensor::from_f32(tensor.shape().to_vec(), numbers).map_err(bad)?;
    Ok(graph.set_weight(name, tensor)?)
}

/// True for functions of one channel each that take s·x to s·f(x).
fn is_homogeneous(op: &Op) -> bool {
    match op {
        Op::MaxPool(_)
        | Op::AvgPool(_)
        | Op::AdaptiveAvgPool(_)
        | Op::AdaptiveMaxPool(_)
        | Op::Dropout(_) => true,
        Op::Activation(activation) => matches!(
            activation,
            Activation::Relu | Activation::LeakyRelu { .. } | Activation::Identity
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_groups_belong_to_the_inputs_of_their_group() {
        let (shape, groups) = ([4, 3, 1, 2], 2);
        let channel = input_channel(&shape, groups);
        let mut element = 0;
        for output in 0..4 {
            for input in 0..3 {
                for _tap in 0..2 {
                    assert_eq!(channel(element), 3 * (output / 2) + input);
                    element += 1;
                }
            }
        }
        let numbers: Vec<f32> = (0..24)
            .map(|i| if i % 2 == 0 { i as f32 } else { -0.5 })
            .collect();
        let most = by_input_channel(&shape, &numbers, groups, 6);
        assert_eq!(most, [6.0, 8.0, 10.0, 18.0, 20.0, 22.0]);
    }

    #[test]
    fn channels_that_are_never_made_or_never_used_stay() {
        let mut graph = rankfold_zoo::build("lenet5", &rankfold_zoo::Options::default()).unwrap();
        let (channels, name) = (120, WeightName::from("fc2.weight"));
        let mut numbers = graph
            .weights()
            .get(&name)
            .unwrap()
            .to_f32()
            .unwrap()
            .into_owned();
        // Nothing uses the first channel.
        numbers
            .iter_mut()
            .step_by(channels)
            .for_each(|number| *number = 0.0);
        let most = largest(&[84, channels], &numbers, 1);
        graph
            .set_weight(
                &name,
                Tensor::from_f32(vec![84, channels], numbers).unwrap(),
            )
            .unwrap();
        // Nothing makes the second.
        let mut ranges = vec![2.0; channels];
        ranges[1] = 0.0;
        let second = Ends {
            kernel: &name,
            bias: None,
            groups: 1,
        };
        let found = divisors(&graph, &second, &ranges).unwrap();
        assert_eq!(found[..2], [1.0, 1.0]);
        let ratio = |channel: usize| (ranges[channel] / most[channel]).sqrt();
        let greatest = (2..channels).map(ratio).fold(0.0, f32::max);
        for (channel, divisor) in found.iter().enumerate().skip(2) {
            let expected = (ratio(channel) / greatest).max(LEAST);
            assert!((divisor / expected - 1.0).abs() < 1e-5, "{channel}");
        }
        // Where nothing is made at all there is nothing to make alike.
        assert_eq!(divisors(&graph, &second, &[0.0; 120]), None);
    }
}
