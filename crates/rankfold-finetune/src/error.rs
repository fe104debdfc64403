//! What training can refuse.

use std::path::PathBuf;

use rankfold_data::DataError;
use rankfold_formats::FormatError;
use rankfold_torch::TorchError;

/// Why a network was not trained.
#[derive(Debug, thiserror::Error)]
pub enum FinetuneError {
    /// libtorch refused something, or the graph cannot be run.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The data could not be read or batched.
    #[error(transparent)]
    Data(#[from] DataError),
    /// libtorch refused a step of the training itself.
    #[error("{step}: {reason}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// libtorch's reason, in one line.
        reason: String,
    },
    /// The loss is no longer a number.
    #[error("the loss is not finite at step {step} (rate {rate})")]
    Diverged {
        /// The step.
        step: usize,
        /// Its learning rate.
        rate: f64,
    },
    /// Teacher and student give outputs of other shapes.
    #[error(
        "expected the outputs of both networks to have the same shapes, found {teacher:?} and {student:?}"
    )]
    OutputsDiffer {
        /// The teacher's.
        teacher: Vec<i64>,
        /// The student's.
        student: Vec<i64>,
    },
    /// A checkpoint could not be written or read as a file.
    #[error(transparent)]
    Format(Box<FormatError>),
    /// A checkpoint that is not what it should be.
    #[error("{}: the training checkpoint cannot be used: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A checkpoint of another training.
    #[error(
        "{}: expected a checkpoint of this training, found one of another: its {what} is {found}, here it is {expected}",
        path.display()
    )]
    OtherTraining {
        /// The file.
        path: PathBuf,
        /// In what they differ.
        what: &'static str,
        /// What it is here.
        expected: String,
        /// What it is there.
        found: String,
    },
    /// A state whose weights are not those of the network.
    #[error("expected a state of this network's weights, found one of other weights")]
    OtherNetwork,
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
}

impl FinetuneError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Torch(error) => error.hint(),
            Self::Diverged { .. } => Some("give a smaller learning rate"),
            Self::Checkpoint { .. } | Self::OtherNetwork => {
                Some("forget the checkpoints of the earlier run (--restart)")
            }
            Self::OtherTraining { .. } => Some(
                "give the same options to go on with it, another folder, or forget it (--restart)",
            ),
            _ => None,
        }
    }
}

impl From<FormatError> for FinetuneError {
    fn from(error: FormatError) -> Self {
        Self::Format(Box::new(error))
    }
}

/// The result of training.
pub type Result<T> = std::result::Result<T, FinetuneError>;

/// Says what was being done when libtorch refused.
pub(crate) trait At<T> {
    fn at(self, step: &'static str) -> Result<T>;
}

impl<T> At<T> for std::result::Result<T, tch::TchError> {
    fn at(self, step: &'static str) -> Result<T> {
        self.map_err(|error| {
            let text = error.to_string();
            FinetuneError::Step {
                step,
                reason: text.lines().next().unwrap_or_default().to_owned(),
            }
        })
    }
}
