//! How a command fails: what is said, what to do about it, and the exit code.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use rankfold_compress::CompressError;
use rankfold_data::DataError;
use rankfold_finetune::FinetuneError;
use rankfold_formats::{FormatError, OnnxFault};
use rankfold_graph::GraphError;
use rankfold_onnxruntime::RuntimeError;
use rankfold_report::ReportError;
use rankfold_torch::{DeviceError, TorchError};
use rankfold_zoo::ZooError;

use crate::interrupt;

/// What went wrong, as the exit code tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something inside, or the system: 1.
    Inside,
    /// The command line: 2.
    Usage,
    /// A file that is not what it should be: 3.
    BadFile,
    /// Data or a device that are not there: 4.
    Missing,
    /// A budget or a plan that cannot be met: 5.
    Unmet,
    /// Ctrl-C: 130.
    Interrupted,
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> Self {
        Self::from(match kind {
            Kind::Inside => 1,
            Kind::Usage => 2,
            Kind::BadFile => 3,
            Kind::Missing => 4,
            Kind::Unmet => 5,
            Kind::Interrupted => 130,
        })
    }
}

/// A command's failure.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            hint: None,
        }
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// True for a budget that cannot be met.
    pub(crate) fn is_unmet(&self) -> bool {
        self.kind == Kind::Unmet
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// A system call on a file that failed.
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::Missing,
            std::io::ErrorKind::InvalidData => Kind::BadFile,
            _ => Kind::Inside,
        };
        Self::new(kind, format!("{}: {error}", path.display()))
    }

    pub(crate) fn hint(self, hint: impl Display) -> Self {
        Self {
            hint: Some(hint.to_string()),
            ..self
        }
    }

    fn maybe_hint(self, hint: Option<impl Display>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// What went wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says it on stderr and returns the exit code.
    #[allow(clippy::print_stderr)]
    pub(crate) fn report(self) -> ExitCode {
        if interrupt::requested() {
            eprintln!("interrupted");
            return Kind::Interrupted.into();
        }
        eprintln!("error: {}", self.message);
        if let Some(hint) = self.hint {
            eprintln!("\nhint: {hint}");
        }
        self.kind.into()
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        let kind = match &error {
            FormatError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Kind::Missing
            }
            FormatError::Io { .. } => Kind::Inside,
            FormatError::Onnx {
                fault: OnnxFault::External { source, .. },
                ..
            } if source.kind() == std::io::ErrorKind::NotFound => Kind::Missing,
            // The network is sound, and cannot be said in ONNX.
            FormatError::Onnx {
                fault: OnnxFault::NoForm { .. },
                ..
            } => Kind::Usage,
            _ => Kind::BadFile,
        };
        Self::new(kind, chain(&error)).maybe_hint(error.hint())
    }
}

impl From<ZooError> for Failure {
    fn from(error: ZooError) -> Self {
        let kind = match &error {
            ZooError::Weights { .. } => Kind::BadFile,
            ZooError::Build { .. } => Kind::Inside,
            _ => Kind::Usage,
        };
        Self::new(kind, chain(&error)).maybe_hint(error.hint())
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        use rankfold_data::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::Usage => Kind::Usage,
            ErrorKind::Missing => Kind::Missing,
            ErrorKind::BadFile => Kind::BadFile,
            ErrorKind::Internal => Kind::Inside,
        };
        Self::new(kind, chain(&error)).maybe_hint(error.hint())
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let kind = match error {
            DeviceError::Unknown { .. } => Kind::Usage,
            _ => Kind::Missing,
        };
        Self::new(kind, &error).hint(error.hint())
    }
}

impl From<TorchError> for Failure {
    fn from(error: TorchError) -> Self {
        match error {
            TorchError::Data(error) => error.into(),
            TorchError::Stopped => Self::interrupted(),
            error => {
                let kind = match error {
                    TorchError::NonFinite { .. } | TorchError::InputNonFinite { .. } => {
                        Kind::BadFile
                    }
                    TorchError::NoLabels | TorchError::Label { .. } => Kind::Usage,
                    TorchError::InputShape { .. }
                    | TorchError::InputType { .. }
                    | TorchError::InputCount { .. } => Kind::Usage,
                    _ => Kind::Inside,
                };
                Self::new(kind, chain(&error)).maybe_hint(error.hint())
            }
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let kind = match error {
            RuntimeError::Format(error) => return (*error).into(),
            RuntimeError::Compress(error) => return (*error).into(),
            RuntimeError::Library { .. } => Kind::Missing,
            RuntimeError::Model { .. } => Kind::BadFile,
            RuntimeError::Input { .. } => Kind::Usage,
            RuntimeError::Run(_) | RuntimeError::Graph(_) | RuntimeError::Io(_) => Kind::Inside,
        };
        Self::new(kind, chain(&error))
    }
}

impl From<GraphError> for Failure {
    fn from(error: GraphError) -> Self {
        Self::new(Kind::Inside, chain(&error))
    }
}

impl From<FinetuneError> for Failure {
    fn from(error: FinetuneError) -> Self {
        match error {
            FinetuneError::Torch(error) => error.into(),
            FinetuneError::Data(error) => error.into(),
            FinetuneError::Format(error) => (*error).into(),
            FinetuneError::Stopped => Self::interrupted(),
            error => {
                let kind = match error {
                    FinetuneError::OtherTraining { .. } => Kind::Usage,
                    FinetuneError::Checkpoint { .. } | FinetuneError::OtherNetwork => Kind::BadFile,
                    _ => Kind::Inside,
                };
                let hint = error.hint();
                Self::new(kind, chain(&error)).maybe_hint(hint)
            }
        }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        let kind = match &error {
            ReportError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Kind::Missing
            }
            ReportError::Io { .. } => Kind::Inside,
            ReportError::NotFolder { .. } => Kind::Usage,
            ReportError::Nothing { .. }
            | ReportError::Syntax { .. }
            | ReportError::Value { .. } => Kind::BadFile,
        };
        Self::new(kind, chain(&error)).maybe_hint(error.hint())
    }
}

impl From<CompressError> for Failure {
    fn from(error: CompressError) -> Self {
        let error = match error {
            // What running the model says, it says better itself.
            CompressError::Probe(source) => match source.downcast::<TorchError>() {
                Ok(source) => return (*source).into(),
                Err(source) => CompressError::Probe(source),
            },
            error => error,
        };
        let kind = match &error {
            CompressError::Budget { .. } => Kind::Unmet,
            CompressError::UnknownLayer { .. }
            | CompressError::Refused { .. }
            | CompressError::Rank { .. }
            | CompressError::RankGroups { .. }
            | CompressError::OpenSize { .. }
            | CompressError::NothingToDo
            | CompressError::NothingToQuantize
            | CompressError::NoLayer
            | CompressError::NoTimes
            | CompressError::Glob { .. }
            | CompressError::SweepModel { .. }
            | CompressError::SweepUnfinished { .. }
            | CompressError::SweepLabels
            | CompressError::SweepProtocol { .. }
            | CompressError::Loss { .. }
            | CompressError::Select { .. } => Kind::Usage,
            CompressError::PlanSyntax { .. }
            | CompressError::PlanModel { .. }
            | CompressError::NonFinite { .. }
            | CompressError::Code { .. } => Kind::BadFile,
            CompressError::Stopped => Kind::Interrupted,
            CompressError::Decompose { .. } | CompressError::Graph(_) | CompressError::Probe(_) => {
                Kind::Inside
            }
        };
        let hint = match &error {
            CompressError::Budget { .. } => {
                Some("allow more, or let more layers take part (see --only and --skip)")
            }
            CompressError::NonFinite { .. } => Some("the file is damaged or training has diverged"),
            CompressError::OpenSize { .. } => {
                Some("give a budget in parameters, or a model whose input size is fixed")
            }
            CompressError::PlanModel { .. } => Some("make a plan for this model: `rankfold plan`"),
            CompressError::SweepModel { .. } => Some("sweep this model: `rankfold sweep`"),
            CompressError::SweepUnfinished { .. } => Some(
                "go on with it by the same command, or join its parts: `rankfold sweep --merge`",
            ),
            CompressError::SweepLabels => Some("sweep on data with labels"),
            CompressError::SweepProtocol { .. } => Some(
                "`--select curves` and `greedy` read curves, `sensitivity` the paper's protocol",
            ),
            CompressError::NothingToQuantize => Some("code the weights alone: --weights-only"),
            CompressError::UnknownLayer { .. } => Some("`rankfold inspect` lists the layers"),
            _ => None,
        };
        Self::new(kind, chain(&error)).maybe_hint(hint)
    }
}
