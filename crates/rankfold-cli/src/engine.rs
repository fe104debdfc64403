//! What runs a model where time counts: libtorch, or the ONNX Runtime of an installed wheel.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rankfold_compress::{Engine, Repeat, StepTime, Timing};
use rankfold_graph::Graph;
use rankfold_onnxruntime::{Library, OnnxRuntime};
use rankfold_torch::{Device, Libtorch, Options};

use crate::failure::{Failure, Kind, Outcome};
use crate::output::note;

/// How ONNX Runtime gets to where it is found.
pub(crate) const GET_ONNX_RUNTIME: &str = "pip install onnxruntime into the active Python, or give --onnxruntime FILE, its libonnxruntime.so";

/// Which engine is timed.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArgs {
    /// What runs the models that are timed
    #[arg(long, value_enum)]
    pub(crate) engine: Option<EngineArg>,

    /// ONNX Runtime's library; that of the active Python, or ORT_DYLIB_PATH, by default
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineArg {
    /// Libtorch, as all other commands
    Libtorch,
    /// ONNX Runtime, on the CPU
    Onnxruntime,
}

impl EngineArgs {
    /// Opens ONNX Runtime.
    pub(crate) fn library(&self) -> Outcome<Library> {
        let path = self.found().ok_or_else(|| {
            Failure::new(Kind::Missing, "ONNX Runtime was not found").hint(GET_ONNX_RUNTIME)
        })?;
        let threads = NonZeroUsize::new(rankfold_torch::threads()).unwrap_or(NonZeroUsize::MIN);
        Ok(Library::open(&path, threads)?)
    }

    /// Where ONNX Runtime's library is.
    pub(crate) fn found(&self) -> Option<PathBuf> {
        let named = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
        let given = self.onnxruntime.clone();
        given.or_else(|| named.map(PathBuf::from)).or_else(|| {
            site_packages()
                .flat_map(|packages| entries(&packages.join("onnxruntime/capi")))
                .find(|path| name(path).starts_with("libonnxruntime.so"))
        })
    }
}

/// Where Python's packages are: those of the active environment first.
pub(crate) fn site_packages() -> impl Iterator<Item = PathBuf> {
    let prefixes = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter();
    let prefixes = prefixes.filter_map(|name| std::env::var_os(name).map(PathBuf::from));
    let pythons = std::env::var_os("PATH").unwrap_or_default();
    let beside: Vec<PathBuf> = std::env::split_paths(&pythons)
        .filter(|folder| folder.join("python3").exists())
        .filter_map(|folder| Some(folder.parent()?.to_owned()))
        .collect();
    let libraries = prefixes.chain(beside).map(|prefix| prefix.join("lib"));
    libraries
        .flat_map(|lib| entries(&lib))
        .filter(|path| name(path).starts_with("python3"))
        .flat_map(|python| ["site-packages", "dist-packages"].map(|folder| python.join(folder)))
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// An engine that is ready.
#[derive(Debug)]
pub(crate) enum Clock {
    Libtorch(Libtorch),
    OnnxRuntime(Box<OnnxRuntime>),
}

impl Clock {
    /// The engine that was asked for; libtorch where none was.
    pub(crate) fn open(args: &EngineArgs, device: Device, batch: usize) -> Outcome<Self> {
        Ok(match args.engine {
            None | Some(EngineArg::Libtorch) => {
                warn_of_sleeping_threads(device);
                let options = Options {
                    device,
                    ..Options::default()
                };
                Self::Libtorch(Libtorch { options, batch })
            }
            Some(EngineArg::Onnxruntime) => Self::OnnxRuntime(Box::new(OnnxRuntime {
                library: args.library()?,
                batch,
                scratch: std::env::temp_dir(),
            })),
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Libtorch(_) => "libtorch",
            Self::OnnxRuntime(_) => "onnxruntime",
        }
    }
}

/// Threads that sleep between parallel steps cost a network of many small steps a tenth of its speed.
pub(crate) fn warn_of_sleeping_threads(device: Device) {
    let name = "OMP_WAIT_POLICY";
    let passive = std::env::var(name).is_ok_and(|policy| policy.eq_ignore_ascii_case("passive"));
    if passive && device == Device::Cpu && rankfold_torch::threads() > 1 {
        note(format!(
            "{name}=passive is set, with which every step of a network waits for its threads to wake: unset it \
             unless the model will run with it"
        ));
    }
}

impl Engine for Clock {
    type Error = Failure;

    fn layouts(&self) -> &'static [&'static str] {
        match self {
            Self::Libtorch(engine) => engine.layouts(),
            Self::OnnxRuntime(engine) => engine.layouts(),
        }
    }

    fn circumstances(&self) -> String {
        match self {
            Self::Libtorch(engine) => engine.circumstances(),
            Self::OnnxRuntime(engine) => engine.circumstances(),
        }
    }

    fn time(&self, models: &[(&Graph, &str)], repeat: Repeat) -> Outcome<Vec<Timing>> {
        Ok(match self {
            Self::Libtorch(engine) => engine.time(models, repeat)?,
            Self::OnnxRuntime(engine) => engine.time(models, repeat)?,
        })
    }

    fn time_parts(&self, models: &[(&Graph, &str)], repeat: Repeat) -> Outcome<Vec<Timing>> {
        Ok(match self {
            Self::Libtorch(engine) => engine.time_parts(models, repeat)?,
            Self::OnnxRuntime(engine) => engine.time_parts(models, repeat)?,
        })
    }

    fn steps(&self, graph: &Graph, runs: usize) -> Outcome<Vec<StepTime>> {
        Ok(match self {
            Self::Libtorch(engine) => engine.steps(graph, runs)?,
            Self::OnnxRuntime(engine) => engine.steps(graph, runs)?,
        })
    }
}
