//! Ops that join values: arithmetic couples their channels, concatenation lines them up.

use rankfold_graph::{Dim, Node, Op, ValueId};

use super::super::coupling::{Channel, Obstacle};
use super::{Followed, Trace, Track, axis_index};

impl Trace<'_> {
    pub(super) fn binary(&mut self, node: &Node) -> Followed {
        let &[a, b] = &node.inputs[..] else {
            return None;
        };
        match (self.tracks.get(&a).cloned(), self.tracks.get(&b).cloned()) {
            (None, None) => Some(Vec::new()),
            (Some(track), None) => self.beside(node, (a, track), b),
            (None, Some(track)) => self.beside(node, (b, track), a),
            (Some(x), Some(y)) => {
                let (x, y) = (self.broadcast(node, a, x)?, self.broadcast(node, b, y)?);
                self.arithmetic(x, y)
            }
        }
    }

    /// Both tracks on the axes of the output.
    fn arithmetic(&mut self, x: Track, y: Track) -> Followed {
        match (x.channels.len(), y.channels.len()) {
            _ if x.axis != y.axis => None,
            (m, n) if m == n => {
                for (&a, &b) in x.channels.iter().zip(&y.channels) {
                    self.coupling.couple(a, b);
                }
                Some(vec![x])
            }
            (1, _) => Some(vec![y]),
            (_, 1) => Some(vec![x]),
            _ => None,
        }
    }

    /// A value with channels and one whose channels are not followed.
    fn beside(
        &mut self,
        node: &Node,
        (value, track): (ValueId, Track),
        other: ValueId,
    ) -> Followed {
        let from_end = self.rank(value)?.checked_sub(track.axis)?;
        let aligned = self.rank(other)?.checked_sub(from_end);
        let size = aligned.and_then(|axis| self.dims(other)?.get(axis));
        let track = self.broadcast(node, value, track)?;
        match (aligned, size) {
            (None, _) | (_, Some(Dim::Fixed(1))) => Some(vec![track]),
            (Some(axis), _) => match self.constant(other) {
                Some(weight) => {
                    self.cut(&weight, axis, &track.channels)?;
                    Some(vec![track])
                }
                None => {
                    let node = node.name.clone();
                    let joined = Obstacle::Joined { node };
                    self.coupling.fix(&track.channels, &joined);
                    Some(vec![track])
                }
            },
        }
    }

    /// The weight behind a constant that one node alone takes.
    fn constant(&self, value: ValueId) -> Option<rankfold_graph::WeightName> {
        let Op::Constant(constant) = &self.graph.producer(value)?.op else {
            return None;
        };
        let alone = self.graph.consumers(value).count() == 1;
        let inside = !self.graph.outputs().contains(&value);
        (alone && inside).then(|| constant.weight.clone())
    }

    /// A track of an input on the axes of the output, which may have more in front.
    fn broadcast(&self, node: &Node, value: ValueId, track: Track) -> Option<Track> {
        let added = self.rank(node.output())?.checked_sub(self.rank(value)?)?;
        Some(Track {
            axis: track.axis + added,
            ..track
        })
    }

    pub(super) fn concat(&mut self, node: &Node, axis: i64) -> Followed {
        let tracks = node.inputs.iter().map(|input| self.tracks.get(input));
        let tracks: Vec<Option<Track>> = tracks.map(Option::<&Track>::cloned).collect();
        let Some(first) = tracks.iter().flatten().next() else {
            return Some(Vec::new());
        };
        let axis = axis_index(axis, self.rank(node.output())?)?;
        if tracks
            .iter()
            .flatten()
            .any(|track| track.axis != first.axis)
        {
            return None;
        }
        if first.axis != axis {
            let all: Option<Vec<Track>> = tracks.into_iter().collect();
            return self.stacked(all?);
        }
        let mut channels = Vec::new();
        for (&input, track) in node.inputs.iter().zip(tracks) {
            match track {
                Some(track) => channels.extend(track.channels),
                None => channels.extend(self.staying(node, input, axis)?),
            }
        }
        Some(vec![Track { axis, channels }])
    }

    /// Values with the same channels one behind the other along another axis.
    fn stacked(&mut self, tracks: Vec<Track>) -> Followed {
        let (first, rest) = tracks.split_first()?;
        for track in rest {
            if track.channels.len() != first.channels.len() {
                return None;
            }
            for (&a, &b) in first.channels.iter().zip(&track.channels) {
                self.coupling.couple(a, b);
            }
        }
        Some(vec![first.clone()])
    }

    /// Places of an axis that no layer made.
    fn staying(&mut self, node: &Node, value: ValueId, axis: usize) -> Option<Vec<Channel>> {
        let count = self.dims(value)?.get(axis)?.fixed()?;
        let channels = self.coupling.fresh(count);
        let node = node.name.clone();
        self.coupling.fix(&channels, &Obstacle::Joined { node });
        Some(channels)
    }
}
