//! Channels followed through a graph, op by op.

mod joins;
mod layers;
mod shapes;

use std::collections::HashMap;

use rankfold_graph::{Dim, Graph, Node, Op, ValueId, WeightName};

use super::coupling::{Channel, Coupling, Obstacle};

pub(super) use shapes::slice_range;

/// The channels of a value: one for every place of an axis.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) axis: usize,
    pub(super) channels: Vec<Channel>,
}

/// An axis of a weight whose places are channels.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) weight: WeightName,
    pub(super) axis: usize,
    pub(super) channels: Vec<Channel>,
}

/// A layer and the channels that it makes.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) name: String,
    pub(super) channels: Vec<Channel>,
}

/// All channels of a graph.
#[derive(Debug)]
pub(super) struct Trace<'g> {
    pub(super) graph: &'g Graph,
    pub(super) coupling: Coupling,
    pub(super) tracks: HashMap<ValueId, Track>,
    pub(super) cuts: Vec<Cut>,
    pub(super) makers: Vec<Maker>,
    uses: HashMap<&'g str, usize>,
}

/// The channels of a node's outputs, none where they are not followed; and none at all where an op
/// needs its inputs as they are.
type Followed = Option<Vec<Track>>;

impl<'g> Trace<'g> {
    pub(super) fn of(graph: &'g Graph) -> Self {
        let mut trace = Self {
            graph,
            coupling: Coupling::default(),
            tracks: HashMap::new(),
            cuts: Vec::new(),
            makers: Vec::new(),
            uses: graph.weight_uses(),
        };
        for node in graph.nodes() {
            match trace.follow(node) {
                Some(tracks) => trace
                    .tracks
                    .extend(node.outputs.iter().copied().zip(tracks)),
                None => trace.fix(
                    &node.inputs,
                    &Obstacle::Op {
                        node: node.name.clone(),
                        op: node.op.kind(),
                    },
                ),
            }
        }
        trace.fix(graph.outputs(), &Obstacle::Output);
        trace
    }

    fn fix(&mut self, values: &[ValueId], obstacle: &Obstacle) {
        for track in values.iter().filter_map(|value| self.tracks.get(value)) {
            self.coupling.fix(&track.channels, obstacle);
        }
    }

    fn follow(&mut self, node: &Node) -> Followed {
        match &node.op {
            Op::Conv(op) => self.conv(node, op),
            Op::ConvTranspose(op) => self.conv_transpose(node, op),
            Op::Linear(op) => self.linear(node, op),
            Op::Binary(_) => self.binary(node),
            Op::Concat(op) => self.concat(node, op.axis),
            _ => self.alone(node),
        }
    }

    /// An op that makes no channels of its own and takes one value.
    fn alone(&mut self, node: &Node) -> Followed {
        let mut inputs = node.inputs.iter();
        if !inputs.any(|input| self.tracks.contains_key(input)) {
            return Some(Vec::new());
        }
        let &[input] = &node.inputs[..] else {
            return None;
        };
        let track = self.tracks.get(&input)?.clone();
        match &node.op {
            Op::Activation(_) | Op::Dropout(_) | Op::BinaryScalar(_) => Some(vec![track]),
            Op::MaxPool(_) | Op::AvgPool(_) | Op::AdaptiveAvgPool(_) | Op::AdaptiveMaxPool(_) => {
                (track.axis == 1).then(|| vec![track])
            }
            Op::BatchNorm(_) if track.axis != 1 => None,
            Op::BatchNorm(_) => {
                for (_, name) in node.op.weights() {
                    self.cut(name, 0, &track.channels)?;
                }
                Some(vec![track])
            }
            _ => self.reshaped(node, track),
        }
    }

    /// Says that the places of a weight's axis are channels.
    fn cut(&mut self, weight: &WeightName, axis: usize, channels: &[Channel]) -> Option<()> {
        if self.graph.weights().get(weight)?.shape().get(axis) != Some(&channels.len()) {
            return None;
        }
        if self.uses.get(&**weight) != Some(&1) {
            let weight = weight.to_string();
            self.coupling.fix(channels, &Obstacle::Shared { weight });
        }
        self.cuts.push(Cut {
            weight: weight.clone(),
            axis,
            channels: channels.to_vec(),
        });
        Some(())
    }

    fn dims(&self, value: ValueId) -> Option<&'g [Dim]> {
        self.graph.fact(value).shape.as_deref()
    }

    fn rank(&self, value: ValueId) -> Option<usize> {
        Some(self.dims(value)?.len())
    }
}

/// An axis that counts from the end where it is negative, as an index.
pub(super) fn axis_index(axis: i64, rank: usize) -> Option<usize> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start).ok()
}
