//! Ops that move, cut or pad the axis on which channels are.

use rankfold_graph::{Dim, Node, Op, ops};

use super::layers::repeated;
use super::{Followed, Trace, Track, axis_index};

impl Trace<'_> {
    pub(super) fn reshaped(&mut self, node: &Node, track: Track) -> Followed {
        let rank = self.rank(*node.inputs.first()?)?;
        let index = |axis: i64| axis_index(axis, rank);
        let indices = |axes: &[i64]| axes.iter().map(|&axis| index(axis)).collect();
        match &node.op {
            Op::Split(op) if index(op.axis)? == track.axis => pieces(&track, &op.sizes),
            Op::Split(op) => Some(vec![track; op.sizes.len()]),
            Op::Slice(op) if index(op.axis)? == track.axis => sliced(track, op),
            Op::Slice(_) => Some(vec![track]),
            Op::Softmax(op) => (index(op.axis)? != track.axis).then(|| vec![track]),
            Op::Pad(op) => self.padded(track, op),
            Op::Permute(op) => {
                let axis = op.dims.iter().position(|&dim| dim == track.axis)?;
                Some(vec![Track { axis, ..track }])
            }
            Op::Mean(op) => {
                let axes: Option<Vec<usize>> = indices(&op.axes);
                without(track, &axes?, op.keep)
            }
            Op::Squeeze(op) => {
                let axes: Option<Vec<usize>> = indices(&op.axes);
                without(track, &axes?, false)
            }
            Op::Unsqueeze(op) => unsqueezed(track, &op.axes, rank),
            Op::Flatten(_) | Op::Reshape(_) => self.regrouped(node, track),
            _ => None,
        }
    }

    fn padded(&mut self, mut track: Track, op: &ops::Pad) -> Followed {
        let [before, after] = *op.padding.get(track.axis)?;
        let mut added = |count: i64| Some(self.coupling.fresh(usize::try_from(count).ok()?));
        let (before, after) = (added(before)?, added(after)?);
        track.channels = [before, track.channels, after].concat();
        Some(vec![track])
    }

    /// The same elements in other dimensions, of which one holds every channel in one piece.
    fn regrouped(&self, node: &Node, track: Track) -> Followed {
        let from = self.dims(*node.inputs.first()?)?;
        let to = self.dims(node.output())?;
        let times = repeats(from, to, track.axis)?;
        Some(vec![Track {
            channels: repeated(&track.channels, times),
            ..track
        }])
    }
}

/// How many places of an axis a channel takes after the dimensions from that axis on were merged
/// anew; none where channels were cut, or where that cannot be told.
fn repeats(from: &[Dim], to: &[Dim], axis: usize) -> Option<usize> {
    let product = |dims: &[Dim]| {
        let mut sizes = dims.iter().map(Dim::fixed);
        sizes.try_fold(1usize, |n, size| n.checked_mul(size?))
    };
    if product(from.get(axis..)?)? != product(to.get(axis..)?)? {
        return None;
    }
    // One dimension before is what the product leaves; several have to be the same.
    let same = |(a, b): (&Dim, &Dim)| a == b && *a != Dim::UNKNOWN;
    if axis > 1 && !from[..axis].iter().zip(&to[..axis]).all(same) {
        return None;
    }
    let (size, merged) = (from[axis].fixed()?, to.get(axis)?.fixed()?);
    (size > 0 && merged.is_multiple_of(size)).then(|| merged / size)
}

fn pieces(track: &Track, sizes: &[usize]) -> Followed {
    let mut rest = &track.channels[..];
    let piece = |&size: &usize| {
        let (own, behind) = rest.split_at_checked(size)?;
        rest = behind;
        Some(Track {
            axis: track.axis,
            channels: own.to_vec(),
        })
    };
    sizes.iter().map(piece).collect()
}

fn sliced(track: Track, op: &ops::Slice) -> Followed {
    if op.step != 1 {
        return None;
    }
    let range = slice_range(op, track.channels.len());
    Some(vec![Track {
        axis: track.axis,
        channels: track.channels.get(range)?.to_vec(),
    }])
}

/// The places that a slice takes of an axis.
pub(in super::super) fn slice_range(op: &ops::Slice, len: usize) -> std::ops::Range<usize> {
    let place = |place: i64| {
        let from_start = match place < 0 {
            true => place.saturating_add(len as i64),
            false => place,
        };
        from_start.clamp(0, len as i64) as usize
    };
    let start = place(op.start);
    start..op.end.map_or(len, place).max(start)
}

/// The track once axes are reduced, or taken away.
fn without(track: Track, axes: &[usize], keep: bool) -> Followed {
    if axes.contains(&track.axis) {
        return None;
    }
    let before = axes.iter().filter(|&&axis| axis < track.axis).count();
    let axis = track.axis - if keep { 0 } else { before };
    Some(vec![Track { axis, ..track }])
}

/// The track once axes of size one are added at these places of the output.
fn unsqueezed(track: Track, axes: &[i64], rank: usize) -> Followed {
    let rank = rank + axes.len();
    let added: Option<Vec<usize>> = axes.iter().map(|&axis| axis_index(axis, rank)).collect();
    let added = added?;
    let old = (0..rank).filter(|axis| !added.contains(axis));
    let axis = old.into_iter().nth(track.axis)?;
    Some(vec![Track { axis, ..track }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated_in(from: &[usize], to: &[usize], axis: usize) -> Option<usize> {
        let dims = |sizes: &[usize]| sizes.iter().map(|&n| Dim::from(n)).collect::<Vec<_>>();
        repeats(&dims(from), &dims(to), axis)
    }

    #[test]
    fn a_channel_takes_as_many_places_as_what_was_merged_with_it() {
        assert_eq!(repeated_in(&[2, 3, 4, 5], &[2, 60], 1), Some(20));
        assert_eq!(repeated_in(&[2, 3, 4, 5], &[2, 3, 20], 1), Some(1));
        assert_eq!(repeated_in(&[2, 7, 3, 4], &[2, 7, 12], 2), Some(4));
    }

    #[test]
    fn channels_that_are_cut_or_moved_are_not_followed() {
        assert_eq!(repeated_in(&[2, 6, 4], &[2, 4, 6], 1), None);
        assert_eq!(repeated_in(&[2, 3, 4], &[3, 2, 4], 1), None);
        assert_eq!(repeated_in(&[2, 7, 3, 4], &[7, 2, 12], 2), None);
        assert_eq!(repeated_in(&[2, 0, 4], &[2, 0], 1), None);
    }
}
