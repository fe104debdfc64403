//! Layers, which make channels and use up those of their inputs.

use rankfold_graph::{Node, WeightName, ops};

use super::super::coupling::Channel;
use super::{Followed, Maker, Trace, Track};

impl Trace<'_> {
    pub(super) fn conv(&mut self, node: &Node, op: &ops::Conv) -> Followed {
        let &[out, per_group, ..] = self.graph.weights().get(&op.weight)?.shape() else {
            return None;
        };
        let input = self.taken(node, 1)?;
        let outputs = match (op.groups, per_group) {
            (1, _) => {
                if let Some(input) = input {
                    self.cut(&op.weight, 1, &input)?;
                }
                self.coupling.fresh(out)
            }
            // A depthwise convolution has the channels of its input.
            (groups, 1) => match input {
                Some(input) if input.len() == groups => repeated(&input, out / groups),
                Some(_) => return None,
                None => return Some(Vec::new()),
            },
            (groups, _) => {
                if let Some(input) = input {
                    self.couple_groups(&input, per_group);
                    self.cut(&op.weight, 1, input.get(..per_group)?)?;
                }
                let group = self.coupling.fresh(out / groups);
                group.repeat(groups)
            }
        };
        self.maker(node, (&op.weight, 0), op.bias.as_ref(), outputs, 1)
    }

    pub(super) fn conv_transpose(&mut self, node: &Node, op: &ops::ConvTranspose) -> Followed {
        let &[taken, per_group, ..] = self.graph.weights().get(&op.weight)?.shape() else {
            return None;
        };
        let input = self.taken(node, 1)?;
        if op.groups == 1 {
            if let Some(input) = input {
                self.cut(&op.weight, 0, &input)?;
            }
            let outputs = self.coupling.fresh(per_group);
            return self.maker(node, (&op.weight, 1), op.bias.as_ref(), outputs, 1);
        }
        let Some(input) = input else {
            return Some(Vec::new());
        };
        if taken != op.groups {
            return None;
        }
        let outputs = repeated(&input, per_group);
        self.cut(&op.weight, 0, &input)?;
        if let Some(bias) = &op.bias {
            self.cut(bias, 0, &outputs)?;
        }
        self.made(node, outputs, 1)
    }

    pub(super) fn linear(&mut self, node: &Node, op: &ops::Linear) -> Followed {
        let last = self.rank(node.output())?.checked_sub(1)?;
        if let Some(input) = self.taken(node, last)? {
            self.cut(&op.weight, 1, &input)?;
        }
        let out = *self.graph.weights().get(&op.weight)?.shape().first()?;
        let outputs = self.coupling.fresh(out);
        self.maker(node, (&op.weight, 0), op.bias.as_ref(), outputs, last)
    }

    /// The channels that a layer takes, which must be on that axis; none where they are not followed.
    fn taken(&self, node: &Node, axis: usize) -> Option<Option<Vec<Channel>>> {
        match self.tracks.get(node.inputs.first()?) {
            Some(track) if track.axis == axis => Some(Some(track.channels.clone())),
            Some(_) => None,
            None => Some(None),
        }
    }

    /// Every group of a convolution loses the channels of the same places.
    fn couple_groups(&mut self, input: &[Channel], per_group: usize) {
        for (place, &channel) in input.iter().enumerate() {
            self.coupling.couple(input[place % per_group], channel);
        }
    }

    fn maker(
        &mut self,
        node: &Node,
        (weight, axis): (&WeightName, usize),
        bias: Option<&WeightName>,
        outputs: Vec<Channel>,
        output_axis: usize,
    ) -> Followed {
        self.cut(weight, axis, &outputs)?;
        if let Some(bias) = bias {
            self.cut(bias, 0, &outputs)?;
        }
        self.made(node, outputs, output_axis)
    }

    fn made(&mut self, node: &Node, channels: Vec<Channel>, axis: usize) -> Followed {
        self.makers.push(Maker {
            name: node.name.clone(),
            channels: channels.clone(),
        });
        Some(vec![Track { axis, channels }])
    }
}

/// Every channel so many times in a row.
pub(super) fn repeated(channels: &[Channel], times: usize) -> Vec<Channel> {
    let each = channels.iter();
    each.flat_map(|&channel| std::iter::repeat_n(channel, times))
        .collect()
}
