use std::path::{Path, PathBuf};

use rankfold_compress::CompressError;
use rankfold_formats::FormatError;
use rankfold_graph::GraphError;

/// Why ONNX Runtime could not do something.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library could not be opened, or is too old.
    #[error("{path}: {reason}")]
    Library {
        /// The library.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A model was refused.
    #[error("{path}: ONNX Runtime does not take it: {reason}")]
    Model {
        /// The model.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// An input cannot be drawn.
    #[error("expected inputs of numbers in tensors of known rank, found `{name}` of {found}")]
    Input {
        /// The input.
        name: String,
        /// What it is.
        found: String,
    },
    /// A model could not be run.
    #[error("ONNX Runtime could not run the model: {0}")]
    Run(String),
    /// A graph could not be written for it.
    #[error(transparent)]
    Format(Box<FormatError>),
    /// A graph is not what it should be.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A layer could not be put into a form.
    #[error(transparent)]
    Compress(Box<CompressError>),
    /// A file could not be made.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl RuntimeError {
    pub(crate) fn library(path: &Path, reason: impl ToString) -> Self {
        Self::Library {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn model(path: &Path, reason: impl ToString) -> Self {
        Self::Model {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl From<FormatError> for RuntimeError {
    fn from(error: FormatError) -> Self {
        Self::Format(Box::new(error))
    }
}

impl From<CompressError> for RuntimeError {
    fn from(error: CompressError) -> Self {
        Self::Compress(Box::new(error))
    }
}
