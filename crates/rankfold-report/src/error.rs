//! What a report cannot be made from.

use std::path::PathBuf;

/// What a report cannot be made from.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder that cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A path that is no folder.
    #[error("expected a folder, found the file {}", path.display())]
    NotFolder {
        /// The path.
        path: PathBuf,
    },
    /// A folder without anything that a report is made from.
    #[error("{} holds nothing to report", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// Text that is not what the file should hold.
    #[error("{}: line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A value that makes no sense.
    #[error("{}: {field}: expected {expected}, found {found}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        field: String,
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

impl ReportError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("name a folder that compress, sweep or finetune wrote")
            }
            Self::NotFolder { .. } => Some("name the folder that the file is in"),
            Self::Nothing { .. } => Some(
                "expected report.json (as compress writes it), sweep.json, or metrics.jsonl in it",
            ),
            Self::Syntax { .. } | Self::Value { .. } => {
                Some("the file is damaged or of another program; make it anew")
            }
            Self::Io { .. } => None,
        }
    }
}
