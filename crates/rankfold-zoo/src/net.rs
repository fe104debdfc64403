//! The builder that the networks share: layers with their weights in one call.

use bytes::Bytes;
use memmap2::MmapMut;
use rankfold_graph::ops::{
    Activation, Arithmetic, BatchNorm, Binary, Conv, ConvTranspose, Flatten, Linear,
};
use rankfold_graph::{
    DType, Fact, Graph, GraphBuilder, GraphError, Op, PaperSize, Tensor, TensorError, ValueId,
    WeightName, element_count,
};

use crate::fill::Fill;
use crate::options::InitialWeights;
use crate::scheme::Scheme;

/// A square convolution over images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv2d {
    out: usize,
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
    groups: usize,
    bias: bool,
}

impl Conv2d {
    /// To `out` channels, with a bias, unpadded, of stride one.
    pub(crate) const fn new(out: usize, kernel: usize) -> Self {
        Self {
            out,
            kernel: [kernel, kernel],
            stride: 1,
            padding: [0, 0],
            groups: 1,
            bias: true,
        }
    }

    /// The same with another kernel, padded so that stride one keeps the size.
    pub(crate) const fn rectangle(mut self, kernel: [usize; 2]) -> Self {
        self.kernel = kernel;
        self.padding = [kernel[0] / 2, kernel[1] / 2];
        self
    }

    pub(crate) const fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    pub(crate) const fn padding(mut self, padding: usize) -> Self {
        self.padding = [padding, padding];
        self
    }

    pub(crate) const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    pub(crate) const fn no_bias(mut self) -> Self {
        self.bias = false;
        self
    }
}

/// What the options of a build come to for one network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) classes: usize,
    pub(crate) input: [usize; 3],
    pub(crate) transform_input: bool,
    pub(crate) k: Option<usize>,
}

/// A network under construction.
pub(crate) struct Net {
    builder: GraphBuilder,
    fills: Vec<(WeightName, Fill)>,
    scheme: Scheme,
    pub(crate) settings: Settings,
}

type Built = Result<ValueId, GraphError>;

impl Net {
    pub(crate) fn new(name: &str, scheme: Scheme, settings: Settings) -> Self {
        Self {
            builder: GraphBuilder::new(name),
            fills: Vec::new(),
            scheme,
            settings,
        }
    }

    /// The model's input.
    pub(crate) fn input(&mut self) -> Built {
        let fact = Fact::batch_of(&self.settings.input);
        self.builder.input("input", fact)
    }

    /// The finished graph with its weights filled.
    pub(crate) fn finish(
        self,
        output: ValueId,
        weights: InitialWeights,
    ) -> Result<Graph, GraphError> {
        let mut graph = self.builder.finish(&[output])?;
        let InitialWeights::Seeded(seed) = weights else {
            return Ok(graph);
        };
        for (name, fill) in self.fills {
            let Some(zeros) = graph.weights().get(&name) else {
                continue;
            };
            let values = fill.values(zeros.len(), seed, &name);
            let tensor = tensor(zeros.shape().to_vec(), values)?;
            graph.set_weight(&name, tensor)?;
        }
        Ok(graph)
    }

    /// Changes how the weights of the layers to come are drawn.
    pub(crate) fn scheme_mut(&mut self) -> &mut Scheme {
        &mut self.scheme
    }

    /// Channels (or features) of a value: its second dimension.
    pub(crate) fn channels(&self, x: ValueId) -> usize {
        self.dim(x, 1)
    }

    /// Height of an image.
    pub(crate) fn height(&self, x: ValueId) -> usize {
        self.dim(x, 2)
    }

    fn dim(&self, x: ValueId, i: usize) -> usize {
        let shape = self.builder.fact(x).shape.as_ref();
        shape
            .and_then(|shape| shape.get(i)?.fixed())
            .unwrap_or_default()
    }

    /// A node without weights of its own.
    pub(crate) fn op(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Built {
        self.builder.op(name, op, inputs)
    }

    pub(crate) fn conv(&mut self, name: &str, x: ValueId, conv: Conv2d) -> Built {
        let [height, width] = conv.kernel;
        let per_group = self.channels(x) / conv.groups;
        let (fan_in, fan_out) = (per_group * height * width, conv.out * height * width);
        let shape = vec![conv.out, per_group, height, width];
        let fill = self.scheme.conv.fill(fan_in, fan_out);
        let weight = self.weight(name, "weight", shape, fill)?;
        let bias = match conv.bias {
            false => None,
            true => {
                let fill = self.scheme.conv_bias.fill(fan_in, conv.out);
                Some(self.weight(name, "bias", vec![conv.out], fill)?)
            }
        };
        let mut op = Conv::new(weight, bias, 2)
            .stride(conv.stride)
            .groups(conv.groups);
        op.padding = conv.padding.map(|n| [n, n]).to_vec();
        self.op(name, op, &[x])
    }

    /// A 3×3 transposed convolution with a bias that doubles height and width.
    pub(crate) fn doubling(&mut self, name: &str, x: ValueId, out: usize) -> Built {
        let channels = self.channels(x);
        let fill = self.scheme.conv.fill(9 * channels, 9 * out);
        let weight = self.weight(name, "weight", vec![channels, out, 3, 3], fill)?;
        let fill = self.scheme.conv_bias.fill(9 * channels, out);
        let op = ConvTranspose {
            weight,
            bias: Some(self.weight(name, "bias", vec![out], fill)?),
            stride: vec![2, 2],
            padding: vec![[1, 1], [1, 1]],
            output_padding: vec![1, 1],
            dilation: vec![1, 1],
            groups: 1,
        };
        self.op(name, op, &[x])
    }

    /// Gives the node added last the sizes that the paper counts.
    pub(crate) fn paper_size(&mut self, input: usize, output: usize) {
        self.builder.paper_size(PaperSize { input, output });
    }

    pub(crate) fn linear(&mut self, name: &str, x: ValueId, out: usize) -> Built {
        let features = self.channels(x);
        let fill = self.scheme.linear_bias.fill(features, out);
        let bias = self.weight(name, "bias", vec![out], fill)?;
        self.matrix(name, x, out, Some(bias))
    }

    pub(crate) fn linear_without_bias(&mut self, name: &str, x: ValueId, out: usize) -> Built {
        self.matrix(name, x, out, None)
    }

    fn matrix(&mut self, name: &str, x: ValueId, out: usize, bias: Option<WeightName>) -> Built {
        let features = self.channels(x);
        let fill = self.scheme.linear.fill(features, out);
        let weight = self.weight(name, "weight", vec![out, features], fill)?;
        self.op(name, Linear { weight, bias }, &[x])
    }

    pub(crate) fn batch_norm(&mut self, name: &str, x: ValueId) -> Built {
        self.batch_norm_with(name, x, 1e-5, 0.1)
    }

    pub(crate) fn batch_norm_with(
        &mut self,
        name: &str,
        x: ValueId,
        eps: f64,
        momentum: f64,
    ) -> Built {
        let shape = vec![self.channels(x)];
        let mut vector =
            |part, value| self.weight(name, part, shape.clone(), Fill::Constant(value));
        let op = BatchNorm {
            scale: Some(vector("weight", 1.0)?),
            shift: Some(vector("bias", 0.0)?),
            mean: vector("running_mean", 0.0)?,
            var: vector("running_var", 1.0)?,
            eps,
            momentum,
        };
        self.op(name, op, &[x])
    }

    pub(crate) fn relu(&mut self, name: &str, x: ValueId) -> Built {
        self.op(name, Activation::Relu, &[x])
    }

    pub(crate) fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> Built {
        let arithmetic = Arithmetic::Add;
        self.op(name, Binary { arithmetic }, &[a, b])
    }

    /// All dimensions of an item in one.
    pub(crate) fn flatten(&mut self, name: &str, x: ValueId) -> Built {
        self.op(name, Flatten { start: 1, end: -1 }, &[x])
    }

    fn weight(
        &mut self,
        layer: &str,
        part: &str,
        shape: Vec<usize>,
        fill: Fill,
    ) -> Result<WeightName, GraphError> {
        let name: WeightName = format!("{layer}.{part}").into();
        self.builder
            .weight(name.clone(), zeros(shape).map_err(stored)?);
        self.fills.push((name.clone(), fill));
        Ok(name)
    }
}

/// Zeros that take memory when they are read: large ones are pages of their own, because a heap that
/// has been used before would have to be cleared.
fn zeros(shape: Vec<usize>) -> Result<Tensor, TensorError> {
    const OWN_PAGES: usize = 1 << 18;
    let len = element_count(&shape)?;
    if len >= OWN_PAGES
        && let Ok(pages) = MmapMut::map_anon(len * DType::F32.size())
    {
        return Tensor::new(DType::F32, shape, Bytes::from_owner(pages));
    }
    Tensor::from_f32(shape, vec![0.0; len])
}

fn tensor(shape: Vec<usize>, values: Vec<f32>) -> Result<Tensor, GraphError> {
    Tensor::from_f32(shape, values).map_err(stored)
}

fn stored(error: TensorError) -> GraphError {
    GraphError::Stored {
        reason: error.to_string(),
    }
}
