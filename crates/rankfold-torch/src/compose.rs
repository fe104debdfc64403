//! Two layers with nothing between them as one, where that is less work.
//!
//! A layer of two stages pays only below a certain rank. Published ranks are not always: VGG16's first
//! layer has rank 59, and its kernel as a matrix only 27 rows. As one layer such a pair is what it was.

use std::collections::HashSet;

use rankfold_graph::{Graph, Node, Op, Patch, Tensor, WeightName};

use crate::error::{Result, TorchError};
use crate::fold::{Folded, bad, values, weight};
use crate::ops::chain::is_pointwise;

/// Composes a layer with the one before it wherever that is less work.
pub(crate) fn compose(graph: &Graph) -> Result<Folded> {
    let mut patch = Patch::new("compose layers");
    let mut nodes = HashSet::new();
    for node in graph.nodes() {
        let Some(&between) = node.inputs.first() else {
            continue;
        };
        let alone = graph.consumers(between).count() == 1 && !graph.outputs().contains(&between);
        let Some(before) = graph.producer(between).filter(|_| alone) else {
            continue;
        };
        let (Some(first), Some(second)) = (Layer::of(graph, before)?, Layer::of(graph, node)?)
        else {
            continue;
        };
        if nodes.contains(&before.name) || !second.mixes_channels_of(&first) {
            continue;
        }
        let [inputs, rank, outputs] = [first.inputs, first.outputs, second.outputs];
        if inputs * outputs < rank * (inputs + outputs) {
            let both = first.then(&second, &mut patch)?;
            patch.set_op(&before.name, both);
            patch.redirect(node.output(), between);
            nodes.extend([before.name.clone(), node.name.clone()]);
        }
    }
    let mut graph = graph.clone();
    if !nodes.is_empty() {
        patch.apply(&mut graph)?;
    }
    Ok(Folded { graph, nodes })
}

/// A convolution or linear layer as a matrix and a vector.
struct Layer<'a> {
    graph: &'a Graph,
    node: &'a Node,
    kernel: &'a WeightName,
    bias: Option<&'a WeightName>,
    shape: &'a [usize],
    /// Numbers that an output channel takes.
    inputs: usize,
    outputs: usize,
}

impl<'a> Layer<'a> {
    fn of(graph: &'a Graph, node: &'a Node) -> Result<Option<Self>> {
        let (kernel, bias) = match &node.op {
            Op::Conv(conv) => (&conv.weight, &conv.bias),
            Op::Linear(linear) => (&linear.weight, &linear.bias),
            _ => return Ok(None),
        };
        let shape = weight(graph, node, kernel)?.shape();
        Ok(Some(Self {
            graph,
            node,
            kernel,
            bias: bias.as_ref(),
            shape,
            inputs: shape[1..].iter().product(),
            outputs: shape[0],
        }))
    }

    /// True where this layer does nothing but mix the channels that another makes.
    fn mixes_channels_of(&self, first: &Self) -> bool {
        match (&first.node.op, &self.node.op) {
            (Op::Conv(first), Op::Conv(own)) => first.groups == 1 && is_pointwise(own, self.shape),
            (Op::Linear(_), Op::Linear(_)) => true,
            _ => false,
        }
    }

    fn matrix(&self) -> Result<Vec<f64>> {
        values(self.graph, self.node, self.kernel)
    }

    fn vector(&self) -> Result<Vec<f64>> {
        let bias = self.bias.map(|bias| values(self.graph, self.node, bias));
        bias.unwrap_or_else(|| Ok(vec![0.0; self.outputs]))
    }

    /// This layer's op with weights that do the second one's work too.
    fn then(&self, second: &Self, patch: &mut Patch) -> Result<Op> {
        let (kernel, term) = (self.matrix()?, self.vector()?);
        let (mix, mut bias) = (second.matrix()?, second.vector()?);
        let mut product = vec![0f64; second.outputs * self.inputs];
        for (to, factors) in mix.chunks_exact(self.outputs).enumerate() {
            let row = &mut product[to * self.inputs..][..self.inputs];
            for (channel, factor) in factors.iter().enumerate() {
                let own = &kernel[channel * self.inputs..][..self.inputs];
                for (sum, value) in row.iter_mut().zip(own) {
                    *sum += factor * value;
                }
                bias[to] += factor * term[channel];
            }
        }
        let mut add = |role: &str, shape: Vec<usize>, values: &[f64]| {
            let name: WeightName = format!("{}.composed.{role}", self.node.name).into();
            let values = values.iter().map(|&value| value as f32).collect();
            let tensor = Tensor::from_f32(shape, values).map_err(|source| bad(&name, source))?;
            patch.weight(name.clone(), tensor);
            Ok::<_, TorchError>(name)
        };
        let mut shape = self.shape.to_vec();
        shape[0] = second.outputs;
        let kernel = add("weight", shape, &product)?;
        let biased = self.bias.or(second.bias).is_some();
        let bias = match biased {
            true => Some(add("bias", vec![second.outputs], &bias)?),
            false => None,
        };
        let mut op = self.node.op.clone();
        match &mut op {
            Op::Conv(conv) => (conv.weight, conv.bias) = (kernel, bias),
            Op::Linear(linear) => (linear.weight, linear.bias) = (kernel, bias),
            _ => {}
        }
        Ok(op)
    }
}
