//! A decomposable layer as the rules see it: a kernel, a geometry, the sizes that it works on.

use ndarray::{Array4, ArrayView4};
use rankfold_graph::{Graph, Node, Op, PaperSize};

use crate::error::{CompressError, Refusal};

/// How a two-dimensional convolution moves over its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Step of the window.
    pub stride: [usize; 2],
    /// Zeros before and after, for rows and columns.
    pub padding: [[usize; 2]; 2],
    /// Distance between the taps.
    pub dilation: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
}

impl Geometry {
    /// That of a 1×1 convolution in one group.
    pub(crate) const POINTWISE: Self = Self {
        stride: [1; 2],
        padding: [[0; 2]; 2],
        dilation: [1; 2],
        groups: 1,
    };

    /// This geometry in another number of groups.
    pub fn grouped(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The part that moves along the rows (0) or the columns (1), with the other axis at rest.
    pub fn along(self, axis: usize) -> Self {
        let mut part = Self::POINTWISE.grouped(self.groups);
        part.stride[axis] = self.stride[axis];
        part.padding[axis] = self.padding[axis];
        part.dilation[axis] = self.dilation[axis];
        part
    }

    /// The output size of a window of `kernel` taps over `input`.
    pub fn output(&self, input: [usize; 2], kernel: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|i| {
            let extent = self.dilation[i] * (kernel[i] - 1) + 1;
            let padded = input[i] + self.padding[i][0] + self.padding[i][1];
            padded.saturating_sub(extent) / self.stride[i] + 1
        })
    }
}

/// What kind of node a layer is, and so what its factors will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A linear layer: the kernel is [T, S, 1, 1].
    Linear,
    /// A convolution over one dimension: the kernel is [T, S, 1, D].
    Conv1d,
    /// A convolution over two dimensions.
    Conv2d,
}

/// A convolution or linear layer with its weights.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The node's name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Name of its weight.
    pub weight: String,
    /// Name of its bias.
    pub bias: Option<String>,
    /// How it moves.
    pub geometry: Geometry,
    /// Shape of the kernel: T, S / groups, Dh, Dw.
    pub shape: [usize; 4],
    /// Rows and columns of the input; [positions, 1] for a linear layer over a sequence.
    pub input: Option<[usize; 2]>,
    /// The sizes that the paper counts.
    pub paper: Option<PaperSize>,
    /// Why no form but `keep` is possible, where that is so.
    pub fixed: Option<Refusal>,
}

/// Whether a node of a rewritten graph is a layer or one of the factors in its place.
pub fn is_part_of(node: &str, layer: &str) -> bool {
    node.strip_prefix(layer).is_some_and(|rest| {
        let number = rest.strip_prefix('.');
        rest.is_empty() || number.is_some_and(|number| number.parse::<usize>().is_ok())
    })
}

impl Layer {
    /// Every convolution and linear layer of a graph, in order.
    pub fn all(graph: &Graph) -> Vec<Self> {
        let uses = graph.weight_uses();
        graph
            .nodes()
            .iter()
            .filter_map(|node| {
                let mut layer = Self::of(graph, node)?;
                let tied = uses.get(&*layer.weight).is_some_and(|&n| n > 1);
                let float = graph.weights().get(&layer.weight)?.dtype().is_float();
                layer.fixed = match (tied, float) {
                    (true, _) => Some(Refusal::Tied),
                    (_, false) => Some(Refusal::NotFloat),
                    _ if layer.is_depthwise() => Some(Refusal::Depthwise),
                    _ => None,
                };
                Some(layer)
            })
            .collect()
    }

    fn of(graph: &Graph, node: &Node) -> Option<Self> {
        let input = graph.fact(*node.inputs.first()?).shape.as_deref();
        let fixed = |i: usize| input.and_then(|dims| dims.get(i)?.fixed());
        match &node.op {
            Op::Linear(linear) => {
                let &[out, features] = graph.weights().get(&linear.weight)?.shape() else {
                    return None;
                };
                let positions = input.and_then(|dims| {
                    let between = dims.get(1..dims.len().saturating_sub(1))?;
                    between.iter().try_fold(1, |n, d| Some(n * d.fixed()?))
                });
                Some(Self {
                    name: node.name.clone(),
                    kind: Kind::Linear,
                    weight: linear.weight.to_string(),
                    bias: linear.bias.as_ref().map(ToString::to_string),
                    geometry: Geometry::POINTWISE,
                    shape: [out, features, 1, 1],
                    input: positions.map(|n| [n, 1]),
                    paper: node.paper_size,
                    fixed: None,
                })
            }
            Op::Conv(conv) => {
                let (kind, shape, input, lift) = match *graph.weights().get(&conv.weight)?.shape() {
                    [t, s, d] => (Kind::Conv1d, [t, s, 1, d], fixed(2).map(|n| [1, n]), true),
                    [t, s, h, w] => {
                        let size = fixed(2).zip(fixed(3)).map(|(h, w)| [h, w]);
                        (Kind::Conv2d, [t, s, h, w], size, false)
                    }
                    _ => return None,
                };
                let pair = |values: &[usize], rest: usize| match lift {
                    true => [rest, values[0]],
                    false => [values[0], values[1]],
                };
                let padding = match lift {
                    true => [[0, 0], conv.padding[0]],
                    false => [conv.padding[0], conv.padding[1]],
                };
                Some(Self {
                    name: node.name.clone(),
                    kind,
                    weight: conv.weight.to_string(),
                    bias: conv.bias.as_ref().map(ToString::to_string),
                    geometry: Geometry {
                        stride: pair(&conv.stride, 1),
                        padding,
                        dilation: pair(&conv.dilation, 1),
                        groups: conv.groups,
                    },
                    shape,
                    input,
                    paper: node.paper_size,
                    fixed: None,
                })
            }
            _ => None,
        }
    }

    /// Output channels.
    pub(crate) fn out_channels(&self) -> usize {
        self.shape[0]
    }

    /// Input channels of all groups together.
    pub(crate) fn in_channels(&self) -> usize {
        self.shape[1] * self.geometry.groups
    }

    /// Rows and columns of the kernel.
    pub fn taps(&self) -> [usize; 2] {
        [self.shape[2], self.shape[3]]
    }

    /// True for a linear layer and for a 1×1 convolution in one group, whatever its stride.
    pub fn is_pointwise(&self) -> bool {
        self.taps() == [1, 1]
    }

    /// True for a grouped convolution with one input channel a group.
    pub fn is_depthwise(&self) -> bool {
        self.geometry.groups > 1 && self.shape[1] == 1
    }

    /// Numbers in the kernel.
    pub(crate) fn kernel_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The kernel as an array [T, S / groups, Dh, Dw] of finite f32.
    pub fn kernel(&self, graph: &Graph) -> Result<Array4<f32>, CompressError> {
        let unknown = || CompressError::UnknownLayer {
            name: self.name.clone(),
            nearest: None,
        };
        let tensor = graph.weights().get(&self.weight).ok_or_else(unknown)?;
        if let Some(index) = tensor.first_non_finite() {
            return Err(CompressError::NonFinite {
                layer: self.name.clone(),
                weight: self.weight.clone(),
                index,
            });
        }
        let values = tensor.to_f32().map_err(|_| CompressError::Refused {
            layer: self.name.clone(),
            form: crate::form::Form::Keep,
            refusal: Refusal::NotFloat,
        })?;
        let view = ArrayView4::from_shape(self.shape, &values).map_err(|_| unknown())?;
        Ok(view.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_have_the_layers_name_and_a_number() {
        for part in ["conv", "conv.0", "conv.12"] {
            assert!(is_part_of(part, "conv"), "{part}");
        }
        for other in ["conv.", "conv.a", "conv2", "conv.0.1", "other", "conv0"] {
            assert!(!is_part_of(other, "conv"), "{other}");
        }
    }

    #[test]
    fn channels_are_those_of_all_groups() {
        let graph =
            rankfold_zoo::build("alexnet-caffe", &rankfold_zoo::Options::default()).unwrap();
        let layers = Layer::all(&graph);
        let conv2 = layers.iter().find(|layer| layer.name == "conv2").unwrap();
        assert_eq!((conv2.in_channels(), conv2.out_channels()), (96, 256));
    }
}
