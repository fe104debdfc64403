//! Taking channels out of a graph.

use std::collections::BTreeMap;

use rankfold_graph::{Graph, GraphError, Node, Op, Patch, Tensor, WeightName};

use super::coupling::Channel;
use super::trace::{Track, axis_index, slice_range};
use super::{Channels, Selection};
use crate::error::CompressError;

impl Channels<'_> {
    /// The graph without the selected channels.
    pub fn without(&self, selection: &Selection) -> Result<Graph, CompressError> {
        let graph = self.trace.graph;
        let mut patch = Patch::new("prune channels");
        for (name, tensor) in self.cut_weights(selection)? {
            patch.weight(name, tensor);
        }
        for node in graph.nodes() {
            let track = node.inputs.first().and_then(|i| self.trace.tracks.get(i));
            if let Some(op) = track.and_then(|track| self.cut_op(node, track, selection)) {
                patch.set_op(node.name.as_str(), op);
            }
        }
        let mut smaller = graph.clone();
        patch.apply(&mut smaller)?;
        Ok(smaller)
    }

    /// The weights that lose something.
    fn cut_weights(
        &self,
        selection: &Selection,
    ) -> Result<BTreeMap<WeightName, Tensor>, CompressError> {
        let mut cut: BTreeMap<WeightName, Tensor> = BTreeMap::new();
        for own in &self.trace.cuts {
            let kept = self.kept(&own.channels, selection);
            if kept.len() == own.channels.len() {
                continue;
            }
            let unknown = || GraphError::Unknown {
                what: "weight",
                name: own.weight.to_string(),
            };
            let whole = self.trace.graph.weights().get(&own.weight);
            let before = cut.get(&own.weight).or(whole).ok_or_else(unknown)?;
            let after = before.pick(own.axis, &kept).ok_or_else(unknown)?;
            cut.insert(own.weight.clone(), after);
        }
        Ok(cut)
    }

    /// The op of a node that says how many channels there are, once some are gone.
    fn cut_op(&self, node: &Node, track: &Track, selection: &Selection) -> Option<Op> {
        let count = |channels: &[Channel]| self.kept(channels, selection).len();
        let channels = &track.channels[..];
        if count(channels) == channels.len() && !matches!(node.op, Op::Pad(_)) {
            return None;
        }
        let shape = self.trace.graph.fact(node.inputs[0]).shape.as_ref();
        let index = |axis: i64| axis_index(axis, shape?.len());
        let here = |axis: i64| index(axis) == Some(track.axis);
        let mut op = node.op.clone();
        match &mut op {
            Op::Conv(conv) if conv.groups == channels.len() => conv.groups = count(channels),
            Op::ConvTranspose(conv) if conv.groups == channels.len() => {
                conv.groups = count(channels);
            }
            Op::Split(split) if here(split.axis) => {
                let mut rest = channels;
                for size in &mut split.sizes {
                    let (own, behind) = rest.split_at_checked(*size)?;
                    (*size, rest) = (count(own), behind);
                }
            }
            Op::Slice(slice) if here(slice.axis) => {
                let range = slice_range(slice, channels.len());
                let start = count(channels.get(..range.start)?) as i64;
                let taken = count(channels.get(range)?) as i64;
                (slice.start, slice.end) = (start, Some(start + taken));
            }
            Op::Pad(pad) => {
                let padded = &self.trace.tracks.get(&node.output())?.channels[..];
                let [before, after] = pad.padding.get_mut(track.axis)?;
                let behind = padded.len().checked_sub(usize::try_from(*after).ok()?)?;
                *after = count(padded.get(behind..)?) as i64;
                *before = count(padded.get(..usize::try_from(*before).ok()?)?) as i64;
            }
            Op::Reshape(reshape) => {
                let made = &self.trace.tracks.get(&node.output())?.channels;
                let size = reshape
                    .shape
                    .get_mut(track.axis)
                    .filter(|size| **size > 0)?;
                *size = count(made) as i64;
            }
            _ => return None,
        }
        Some(op)
    }
}
