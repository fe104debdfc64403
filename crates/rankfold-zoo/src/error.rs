//! What the zoo refuses.

use rankfold_graph::{GraphError, OpError, WeightMismatch};

use crate::closest::Match;

/// Why a network cannot be built or loaded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ZooError {
    /// No network of that name.
    #[error("there is no network `{name}`")]
    UnknownNetwork {
        /// The name asked for.
        name: String,
        /// The most similar name there is.
        nearest: &'static str,
    },
    /// An option that the network does not have.
    #[error("`{network}` has no option `{option}`")]
    NoSuchOption {
        /// The network.
        network: &'static str,
        /// The option.
        option: &'static str,
        /// The networks that have it, in words.
        only: &'static str,
    },
    /// An option's value is out of range.
    #[error("`{network}`: expected {option} between {min} and {max}, found {got}")]
    OutOfRange {
        /// The network.
        network: &'static str,
        /// The option.
        option: &'static str,
        /// Smallest value.
        min: usize,
        /// Largest value.
        max: usize,
        /// Value found.
        got: usize,
    },
    /// The network cannot be put together with these options.
    #[error("`{network}` cannot be built: {source}")]
    Build {
        /// The network.
        network: &'static str,
        /// What does not fit.
        source: Box<GraphError>,
    },
    /// A checkpoint's tensors are not those of the network.
    #[error("the tensors are not those of `{network}`:{}", lines(.mismatches))]
    Weights {
        /// The network.
        network: &'static str,
        /// Every tensor that differs.
        mismatches: Vec<WeightMismatch>,
        /// The network that comes closest, where it is another.
        closest: Option<Box<Match>>,
    },
}

fn lines(mismatches: &[WeightMismatch]) -> String {
    mismatches.iter().map(|m| format!("\n  {m}")).collect()
}

impl ZooError {
    /// What to do about it, for the line after the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownNetwork { nearest, .. } => Some(format!(
                "`{nearest}` is the nearest name; `rankfold zoo` lists them all"
            )),
            Self::NoSuchOption { only, .. } => Some(format!("only {only} can be given it")),
            Self::OutOfRange { .. } => None,
            Self::Build { source, .. } => match **source {
                GraphError::Op {
                    source: OpError::Window { .. },
                    ..
                } => Some("the network needs a larger input".to_owned()),
                _ => None,
            },
            Self::Weights { closest, .. } => Some(match closest {
                Some(other) => format!(
                    "the tensors come closest to `{}` ({:.0} % of them fit); \
                     an exported .pt2 or ONNX file needs no network's name",
                    other.network.name,
                    100.0 * other.score
                ),
                None => "an exported .pt2 or ONNX file needs no network's name".to_owned(),
            }),
        }
    }
}
