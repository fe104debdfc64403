//! Small weights become zeros, and the network learns to do without them.

use rankfold_compress::{ConnectionRule, LayerZeros, prune_connections};
use rankfold_graph::Graph;
use serde_json::Value;

use super::cycles::School;
use crate::failure::Outcome;
use crate::steps::zeros_line;

/// A network whose small weights are zero.
pub(crate) struct Thinned {
    pub(crate) graph: Graph,
    pub(crate) zeros: Vec<LayerZeros>,
    /// The network of the last epoch, where another is used.
    pub(crate) last: Option<Graph>,
    /// What the report says of its training.
    pub(crate) training: Option<Value>,
    /// Divergence from the teacher, or the loss, on inputs that are not learnt from.
    pub(crate) error: Option<f64>,
}

impl Thinned {
    /// What the user should know.
    pub(crate) fn told(&self) -> String {
        let zeros = zeros_line(&self.zeros);
        match self.error {
            Some(error) => format!("{zeros}; error after training {:.4}", error.max(0.0)),
            None => zeros,
        }
    }

    /// Sets weights to zero, and trains the rest where there is a school.
    pub(crate) fn of(
        graph: &Graph,
        rule: ConnectionRule,
        school: Option<&School<'_>>,
    ) -> Outcome<Self> {
        let (graph, zeros) = prune_connections(graph, rule)?;
        let Some(school) = school else {
            return Ok(Self {
                graph,
                zeros,
                last: None,
                training: None,
                error: None,
            });
        };
        let pupil = school.taught(&graph, "connections")?;
        Ok(Self {
            graph: pupil.graph,
            zeros,
            last: pupil.last,
            training: pupil.training,
            error: pupil.error,
        })
    }
}
