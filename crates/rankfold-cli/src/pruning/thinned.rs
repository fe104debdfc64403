//! Small weights become zeros, and the network learns to do without them.

use rankfold_compress::{ConnectionRule, LayerZeros, prune_connections};
use rankfold_graph::Graph;

use super::cycles::{Pupil, School};
use crate::failure::Outcome;
use crate::steps::zeros_line;

/// A network whose small weights are zero.
pub(crate) struct Thinned {
    pub(crate) pupil: Pupil,
    pub(crate) zeros: Vec<LayerZeros>,
}

impl Thinned {
    /// What the user should know.
    pub(crate) fn told(&self) -> String {
        let zeros = zeros_line(&self.zeros);
        match self.pupil.error {
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
        let pupil = match school {
            Some(school) => school.taught(&graph, "connections")?,
            None => Pupil::untaught(graph),
        };
        Ok(Self { pupil, zeros })
    }
}
