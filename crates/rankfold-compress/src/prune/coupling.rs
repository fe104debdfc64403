//! Which channels can only go together, and which cannot go.

use std::collections::HashMap;

/// A channel somewhere in a graph. Coupled ones have one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Channel(u32);

/// Why channels stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The model gives them out.
    #[error("they are an output of the model")]
    Output,
    /// An op whose result depends on how many there are, or that is not understood.
    #[error("`{node}` ({op}) needs all of them")]
    Op {
        /// The node.
        node: String,
        /// Its kind of op.
        op: &'static str,
    },
    /// They are added to, or stand beside, values that are no layer's.
    #[error("`{node}` joins them with values that stay")]
    Joined {
        /// The node.
        node: String,
    },
    /// Several ops use the weight that would be cut.
    #[error("the weight `{weight}` is shared")]
    Shared {
        /// The weight.
        weight: String,
    },
    /// No activation tells of them.
    #[error("no activation follows")]
    Unseen,
}

/// Sets of channels that can only go together.
#[derive(Debug, Default)]
pub(super) struct Coupling {
    /// The channel that each was coupled to; a root is its own.
    parents: Vec<Channel>,
    /// By root.
    obstacles: HashMap<Channel, Obstacle>,
}

impl Coupling {
    /// Channels that are coupled to none.
    pub(super) fn fresh(&mut self, count: usize) -> Vec<Channel> {
        let first = self.parents.len() as u32;
        let fresh = (first..first + count as u32).map(Channel);
        self.parents.extend(fresh.clone());
        fresh.collect()
    }

    /// The channel that stands for all that are coupled to this one.
    pub(super) fn root(&self, mut channel: Channel) -> Channel {
        loop {
            match self.parents[channel.0 as usize] {
                parent if parent == channel => return channel,
                parent => channel = parent,
            }
        }
    }

    pub(super) fn couple(&mut self, a: Channel, b: Channel) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let (root, other) = (a.min(b), a.max(b));
        self.parents[other.0 as usize] = root;
        if let Some(obstacle) = self.obstacles.remove(&other) {
            self.obstacles.entry(root).or_insert(obstacle);
        }
    }

    /// Lets channels, and all that are coupled to them, stay.
    pub(super) fn fix(&mut self, channels: &[Channel], obstacle: &Obstacle) {
        for &channel in channels {
            let root = self.root(channel);
            let known = self.obstacles.entry(root);
            known.or_insert_with(|| obstacle.clone());
        }
    }

    pub(super) fn obstacle(&self, channel: Channel) -> Option<&Obstacle> {
        self.obstacles.get(&self.root(channel))
    }
}
