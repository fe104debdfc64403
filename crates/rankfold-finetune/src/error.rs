//! What training can refuse.

use rankfold_data::DataError;
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
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
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
