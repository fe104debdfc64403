//! What the report says of pruning.

use std::fmt;

use rankfold_compress::{Channels, LayerChannels};
use rankfold_graph::Graph;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cycles::Pruned;
use super::thinned::Thinned;
use crate::output::grouped;
use crate::steps::{connections, zeros_line};

/// What a cycle did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cycle {
    #[serde(rename = "cycle")]
    pub(super) number: usize,
    /// Channels removed and left.
    pub(super) removed: usize,
    pub(super) left: usize,
    /// Divergence from the teacher, or the loss, on inputs that are not learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<f64>,
    /// False where it was taken back.
    pub(super) taken: bool,
}

impl Cycle {
    /// True where it came to nothing.
    pub(super) fn is_vain(&self) -> bool {
        self.removed == 0 || !self.taken
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            removed,
            left,
            ..
        } = self;
        write!(f, "cycle {number}: {removed} channels removed, {left} left")?;
        if let Some(error) = self.error {
            write!(f, ", error {:.4}", error.max(0.0))?;
        }
        match self.taken {
            true => Ok(()),
            false => f.write_str(": taken back"),
        }
    }
}

/// What happened to a layer.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// Before and after.
    channels: [usize; 2],
    /// Why all of them stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    stays: Option<String>,
}

/// What the report says of a pruning.
pub(crate) fn account(start: &Graph, pruned: Option<&Pruned>, thinned: Option<&Thinned>) -> Value {
    let mut steps = Map::new();
    if let Some(pruned) = pruned {
        steps.insert("nodes".to_owned(), nodes(start, pruned));
        let training = pruned.training.clone();
        steps.extend(training.map(|training| ("training".to_owned(), training)));
    }
    if let Some(thinned) = thinned {
        steps.insert("connections".to_owned(), connections(&thinned.zeros));
        let training = thinned.pupil.training.clone();
        steps.extend(training.map(|training| ("training".to_owned(), training)));
    }
    Value::Object(steps)
}

/// What pruning did, in words.
pub(crate) fn told(start: &Graph, pruned: Option<&Pruned>, thinned: Option<&Thinned>) -> String {
    let width = |graph: &Graph| -> usize {
        let channels = Channels::of(graph);
        channels.widths().map(|(_, width)| width).sum()
    };
    let channels = pruned.map(|pruned| {
        let [before, after] = [start, &pruned.graph].map(width);
        format!(
            "{} of {} channels removed",
            grouped(before.saturating_sub(after) as u64),
            grouped(before as u64)
        )
    });
    let zeros = thinned.map(|thinned| zeros_line(&thinned.zeros));
    let parts: Vec<String> = [channels, zeros].into_iter().flatten().collect();
    parts.join("; ")
}

/// What cycles did to a network, and to its layers.
fn nodes(start: &Graph, pruned: &Pruned) -> Value {
    let before = Channels::of(start);
    let after = Channels::of(&pruned.graph);
    let layers = before.widths().zip(after.widths());
    let rows = layers.map(|((name, before), (_, after))| Row {
        name: name.to_owned(),
        channels: [before, after],
        stays: why(&pruned.layers, name),
    });
    json!({
        "cycles": pruned.cycles,
        "layers": rows.collect::<Vec<_>>(),
    })
}

fn why(layers: &[LayerChannels], name: &str) -> Option<String> {
    let layer = layers.iter().find(|layer| layer.name == name)?;
    layer.obstacle.as_ref().map(ToString::to_string)
}
