//! Pruning (Çallı 2017): connections by the size of their weights, channels by what activations say.
//!
//! [`Channels`] follows the channels of a graph from the layers that make them to those that use them
//! up. What is joined on the way (sums, depthwise convolutions, concatenated maps) goes together or
//! stays together; what reaches an output, or an op that needs all channels, stays. Removing cuts the
//! weights and nothing else: a graph without the channels that were zero computes what it did before.

mod activity;
mod connections;
mod coupling;
mod criterion;
mod surgery;
mod trace;

use std::collections::{HashMap, HashSet};

use rankfold_graph::{Graph, Op};

pub use activity::{Activity, ChannelActivity, Site};
pub use connections::{ConnectionRule, LayerZeros, prune_connections};
pub use coupling::Obstacle;
pub use criterion::{Criterion, Verdict};

use self::coupling::Channel;
use self::trace::{Trace, Track};

/// The channels of a graph, and which can only go together.
#[derive(Debug)]
pub struct Channels<'g> {
    trace: Trace<'g>,
}

/// Which channels go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Roots.
    gone: HashSet<Channel>,
    /// Roots of the channels that some activation told of.
    seen: HashSet<Channel>,
}

impl Selection {
    /// True where nothing goes.
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty()
    }
}

/// What a selection does to one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerChannels {
    /// The layer.
    pub name: String,
    /// Channels that it makes.
    pub before: usize,
    /// The places of those that stay.
    pub kept: Vec<usize>,
    /// Why none of them can go, where that is so.
    pub obstacle: Option<Obstacle>,
}

impl<'g> Channels<'g> {
    /// The channels of a graph.
    pub fn of(graph: &'g Graph) -> Self {
        Self {
            trace: Trace::of(graph),
        }
    }

    /// Every layer and how many channels it makes, in order.
    pub fn widths(&self) -> impl Iterator<Item = (&str, usize)> {
        let makers = self.trace.makers.iter();
        makers.map(|maker| (maker.name.as_str(), maker.channels.len()))
    }

    /// The activations that tell of channels that can go.
    pub fn sites(&self) -> Vec<Site> {
        let nodes = self.trace.graph.nodes().iter();
        let activations = nodes.filter(|node| matches!(node.op, Op::Activation(_)));
        activations
            .filter_map(|node| {
                let track = self.trace.tracks.get(&node.output())?;
                let free = |&channel: &Channel| self.trace.coupling.obstacle(channel).is_none();
                track.channels.iter().any(free).then(|| Site {
                    node: node.name.clone(),
                    axis: track.axis,
                    channels: track.channels.len(),
                })
            })
            .collect()
    }

    /// The channels that go by a criterion. A channel stays where any activation that it, or one that
    /// is coupled to it, comes to wants it; and one of every value stays.
    pub fn select(&self, criterion: Criterion, activity: &Activity) -> Selection {
        let mut votes: HashMap<Channel, Verdict> = HashMap::new();
        for (channels, verdicts) in self.verdicts(criterion, activity) {
            for (&channel, verdict) in channels.iter().zip(verdicts) {
                let vote = votes.entry(self.trace.coupling.root(channel));
                let vote = vote.or_insert(Verdict::WORTHLESS);
                vote.keep |= verdict.keep;
                vote.worth = vote.worth.max(verdict.worth);
            }
        }
        let free = |root: &Channel| self.trace.coupling.obstacle(*root).is_none();
        let unwanted = votes.iter().filter(|(root, vote)| !vote.keep && free(root));
        let mut selection = Selection {
            gone: unwanted.map(|(&root, _)| root).collect(),
            seen: votes.keys().copied().collect(),
        };
        self.leave_one(&mut selection, &votes);
        selection
    }

    /// What every activation says of its channels.
    fn verdicts(
        &self,
        criterion: Criterion,
        activity: &Activity,
    ) -> Vec<(&[Channel], Vec<Verdict>)> {
        let mut all = Vec::new();
        for site in self.sites() {
            let node = self.trace.graph.node(&site.node);
            let track = node.and_then(|node| self.trace.tracks.get(&node.output()));
            let (Some(track), Some(own)) = (track, activity.get(&site.node)) else {
                continue;
            };
            if own.channels() == site.channels {
                all.push((&track.channels[..], criterion.verdicts(own)));
            }
        }
        all
    }

    /// Takes the best channel of every value that would be left with none off the selection.
    fn leave_one(&self, selection: &mut Selection, votes: &HashMap<Channel, Verdict>) {
        for value in self.trace.graph.nodes().iter().flat_map(|n| &n.outputs) {
            let Some(Track { channels, .. }) = self.trace.tracks.get(value) else {
                continue;
            };
            let roots = || channels.iter().map(|&c| self.trace.coupling.root(c));
            if roots().any(|root| !selection.gone.contains(&root)) {
                continue;
            }
            let worth = |root: &Channel| votes.get(root).map_or(f64::NEG_INFINITY, |v| v.worth);
            // The first of several that are as good.
            let best = roots().reduce(|best, next| match worth(&next) > worth(&best) {
                true => next,
                false => best,
            });
            if let Some(best) = best {
                selection.gone.remove(&best);
            }
        }
    }

    /// What a selection does to every layer, in order.
    pub fn outcome(&self, selection: &Selection) -> Vec<LayerChannels> {
        let makers = self.trace.makers.iter();
        makers
            .map(|maker| LayerChannels {
                name: maker.name.clone(),
                before: maker.channels.len(),
                kept: self.kept(&maker.channels, selection),
                obstacle: self.obstacle(&maker.channels, selection),
            })
            .collect()
    }

    /// Why none of some channels can go.
    fn obstacle(&self, channels: &[Channel], selection: &Selection) -> Option<Obstacle> {
        let why = |&channel: &Channel| {
            let root = self.trace.coupling.root(channel);
            let unseen = !selection.seen.contains(&root);
            let known = self.trace.coupling.obstacle(root).cloned();
            known.or(unseen.then_some(Obstacle::Unseen))
        };
        let all: Option<Vec<Obstacle>> = channels.iter().map(why).collect();
        all?.into_iter().next()
    }

    /// The places of the channels that stay.
    fn kept(&self, channels: &[Channel], selection: &Selection) -> Vec<usize> {
        let stays = |channel: Channel| !selection.gone.contains(&self.trace.coupling.root(channel));
        let places = 0..channels.len();
        places.filter(|&place| stays(channels[place])).collect()
    }
}
