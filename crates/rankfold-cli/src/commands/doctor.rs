use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use rankfold_torch::{DeviceChoice, DeviceError, NoCuda};
use rustix::fs::{Access, access, statvfs};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::DeviceArgs;
use crate::background;
use crate::engine::{EngineArg, EngineArgs, GET_ONNX_RUNTIME, site_packages};
use crate::failure::{Failure, Kind, Outcome};
use crate::latency::cache;
use crate::output::{bytes, say, say_json};

/// Say what Rankfold finds on this machine, what is missing and how to get it
///
/// Fails where something is missing that is needed: libtorch of the right version, and the device and
/// the engine that --device and --engine name.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Space below which a compression or a training may not end well.
const LITTLE_SPACE: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Missing,
    /// There, and of no use.
    Broken,
}

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    state: State,
    /// Whether commands fail without it.
    needed: bool,
    about: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The same as `about`, for programs.
    #[serde(flatten)]
    facts: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    /// Whether all that is needed is there.
    ok: bool,
    findings: Vec<Finding>,
}

impl Finding {
    fn new(name: &'static str, state: State, about: impl Into<String>) -> Self {
        Self {
            name,
            state,
            needed: false,
            about: about.into(),
            path: None,
            hint: None,
            facts: Map::new(),
        }
    }

    fn needed(self, needed: bool) -> Self {
        Self { needed, ..self }
    }

    fn at(self, path: impl Into<PathBuf>) -> Self {
        let path = Some(path.into());
        Self { path, ..self }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }

    fn fact(mut self, name: &str, value: Value) -> Self {
        self.facts.insert(name.to_owned(), value);
        self
    }

    /// Whether it is needed and cannot be used.
    fn fails(&self) -> bool {
        self.needed && self.state != State::Ok
    }
}

impl Doctor {
    pub(crate) fn run(self) -> Outcome {
        if let Some(threads) = self.device.threads {
            rankfold_torch::set_threads(threads);
        }
        let findings = vec![
            rankfold(),
            libtorch(),
            processor(),
            cuda(self.device.device),
            onnx_runtime(&self.engine),
            pytorch(),
            timings(),
            working_folder(),
        ];
        let missing: Vec<&str> = findings
            .iter()
            .filter(|finding| finding.fails())
            .map(|finding| finding.name)
            .collect();
        let failure = (!missing.is_empty()).then(|| {
            let names = missing.join(", ");
            Failure::new(Kind::Missing, format!("needed and not there: {names}"))
        });
        if self.json {
            let ok = failure.is_none();
            say_json(&Diagnosis { ok, findings })?;
        } else {
            for finding in &findings {
                say(line(finding))?;
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

fn line(finding: &Finding) -> String {
    let state = match finding.state {
        State::Ok => "ok",
        State::Missing => "missing",
        State::Broken => "broken",
    };
    let mut line = format!("{state:8} {:14} {}", finding.name, finding.about);
    if let Some(path) = &finding.path {
        line += &format!(", {}", path.display());
    }
    if let Some(hint) = &finding.hint {
        line += &format!("\n{:8} {hint}", "hint");
    }
    line
}

fn rankfold() -> Finding {
    let version = env!("CARGO_PKG_VERSION");
    let found = Finding::new("rankfold", State::Ok, version);
    let found = found.fact("version", json!(version));
    match std::env::current_exe() {
        Ok(path) => found.at(path),
        Err(_) => found,
    }
}

fn libtorch() -> Finding {
    let wanted = rankfold_torch::LIBTORCH;
    let version = rankfold_torch::libtorch_version();
    let fits = |version: &str| {
        let patch = version.strip_prefix(wanted);
        patch.is_some_and(|patch| patch.starts_with('.'))
    };
    let found = match version.as_deref() {
        Some(version) if fits(version) => Finding::new("libtorch", State::Ok, version),
        other => Finding::new(
            "libtorch",
            State::Broken,
            format!("{}, expected {wanted}", other.unwrap_or("unknown version")),
        )
        .hint(format!(
            "run `make libtorch`, or let LD_LIBRARY_PATH name the lib folder of a libtorch {wanted}"
        )),
    };
    let found = found.needed(true).fact("version", json!(version));
    match rankfold_torch::libtorch_folder() {
        Some(folder) => found.at(folder),
        None => found,
    }
}

/// Instruction sets for which there is code of our own or of libtorch's.
#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<(&'static str, bool)> {
    vec![
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_sets() -> Vec<(&'static str, bool)> {
    Vec::new()
}

fn processor() -> Finding {
    let machine = background::machine(rankfold_torch::Device::Cpu);
    let (there, absent): (Vec<_>, Vec<_>) = instruction_sets()
        .into_iter()
        .partition(|(_, there)| *there);
    let names = |sets: &[(&str, bool)]| sets.iter().map(|set| set.0).collect::<Vec<_>>().join(" ");
    let threads = rankfold_torch::threads();
    let mut about = machine.processor.unwrap_or_else(|| "unknown".to_owned());
    about += &match threads {
        1 => ", 1 thread".to_owned(),
        _ => format!(", {threads} threads"),
    };
    if !there.is_empty() {
        about += &format!(", {}", names(&there));
    }
    if !absent.is_empty() {
        about += &format!(", no {}", names(&absent));
    }
    let sets = there.iter().map(|set| set.0);
    Finding::new("processor", State::Ok, about)
        .fact("threads", json!(threads))
        .fact("instruction_sets", sets.collect())
        .fact("bf16", json!(rankfold_torch::Device::Cpu.is_fast_in_bf16()))
}

fn cuda(asked: DeviceChoice) -> Finding {
    let (choice, needed) = match asked {
        DeviceChoice::Auto | DeviceChoice::Cpu => (DeviceChoice::Cuda(0), false),
        DeviceChoice::Cuda(_) => (asked, true),
    };
    let gpus = rankfold_torch::gpu_count().unwrap_or(0);
    let found = match choice.resolve() {
        Ok(_) if gpus == 1 => Finding::new("cuda", State::Ok, "1 GPU"),
        Ok(_) => Finding::new("cuda", State::Ok, format!("{gpus} GPUs")),
        Err(error) => {
            let (state, about) = match &error {
                DeviceError::NoCuda { reason, .. } => match reason {
                    NoCuda::Unloadable { .. } => (State::Broken, reason.to_string()),
                    _ => (State::Missing, reason.to_string()),
                },
                _ => (State::Missing, error.to_string()),
            };
            Finding::new("cuda", state, about).hint(error.hint())
        }
    };
    let found = found.needed(needed).fact("gpus", json!(gpus));
    match rankfold_torch::cuda_library() {
        Some(path) => found.at(path),
        None => found,
    }
}

fn onnx_runtime(engine: &EngineArgs) -> Finding {
    let found = match (engine.found(), engine.library()) {
        (Some(path), Ok(library)) => {
            let version = library.version();
            Finding::new(
                "onnxruntime",
                State::Ok,
                version.unwrap_or("unknown version"),
            )
            .at(path)
            .fact("version", json!(version))
        }
        (Some(_), Err(failure)) => {
            Finding::new("onnxruntime", State::Broken, failure.message()).hint(GET_ONNX_RUNTIME)
        }
        (None, _) => Finding::new(
            "onnxruntime",
            State::Missing,
            "not in the active Python, nor named by ORT_DYLIB_PATH or --onnxruntime",
        )
        .hint(format!("for --engine onnxruntime: {GET_ONNX_RUNTIME}")),
    };
    found.needed(engine.engine == Some(EngineArg::Onnxruntime))
}

/// The PyTorch of the active Python, which is asked for its version without being started.
fn pytorch() -> Finding {
    let torch = site_packages().find_map(|packages| {
        let folder = packages.join("torch");
        let text = fs::read_to_string(folder.join("version.py")).ok()?;
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        let version = line.split(['\'', '"']).nth(1)?.to_owned();
        Some((folder, version))
    });
    match torch {
        Some((folder, version)) => Finding::new("pytorch", State::Ok, &version)
            .at(folder)
            .fact("version", json!(version)),
        None => Finding::new("pytorch", State::Missing, "not in the active Python").hint(
            "only for running model.py and .pt2 files outside of Rankfold: pip install torch",
        ),
    }
}

fn timings() -> Finding {
    let Some(folder) = cache() else {
        return Finding::new("timings", State::Missing, "no folder to keep them in").hint(
            "set HOME or XDG_CACHE_HOME, or give --timings FILE, or layers are timed anew by every run",
        );
    };
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let files = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("timings-"))
        .count();
    let about = match files {
        0 => "none kept yet".to_owned(),
        1 => "1 file".to_owned(),
        _ => format!("{files} files"),
    };
    let found = match is_writable(&folder) {
        true => Finding::new("timings", State::Ok, about),
        false => Finding::new("timings", State::Broken, format!("{about}, not writable"))
            .hint("let XDG_CACHE_HOME name a folder that is, or give --timings FILE"),
    };
    found.at(folder).fact("files", json!(files))
}

fn working_folder() -> Finding {
    let name = "folder";
    let Ok(folder) = std::env::current_dir() else {
        return Finding::new(name, State::Broken, "the working folder is gone");
    };
    let space = statvfs(&folder).map(|system| system.f_bavail * system.f_frsize);
    let found = match &space {
        _ if !is_writable(&folder) => Finding::new(name, State::Broken, "not writable")
            .hint("go to one that is, or let -o and --output name one"),
        Ok(free) if *free < LITTLE_SPACE => {
            Finding::new(name, State::Ok, format!("{} free", bytes(*free)))
                .hint("that is little: models and the states of a training are written here")
        }
        Ok(free) => Finding::new(name, State::Ok, format!("{} free", bytes(*free))),
        Err(_) => Finding::new(name, State::Ok, "free space unknown"),
    };
    found.at(folder).fact("bytes_free", json!(space.ok()))
}

/// Whether files can be made in a folder, or in the one that it would be made in.
fn is_writable(folder: &Path) -> bool {
    let there = folder.ancestors().find(|folder| folder.exists());
    there.is_some_and(|folder| access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}
