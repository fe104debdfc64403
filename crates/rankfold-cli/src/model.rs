//! From what the user names to a graph.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rankfold_formats::{FileKind, described_model, read_weights, read_weights_at};
use rankfold_graph::{Graph, WeightName, Weights};
use rankfold_torch::{Simplified, simplify};
use rankfold_zoo::Options;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::args::ArchArgs;
use crate::exported::{Format, Origin};
use crate::failure::{Failure, Kind, Outcome};
use crate::output::note;

/// A model as it was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The network with its weights.
    pub(crate) graph: Graph,
    /// What the file says of its making, where it describes itself.
    pub(crate) record: Map<String, Value>,
    /// The file, for models that have one.
    pub(crate) path: Option<PathBuf>,
    /// What else the file had, for models that were exported.
    pub(crate) origin: Option<Origin>,
    /// What was taken out on request.
    pub(crate) simplified: Option<Simplified>,
}

impl Loaded {
    /// A model that comes from no file.
    pub(crate) fn made(graph: Graph) -> Self {
        Self {
            graph,
            record: Map::new(),
            path: None,
            origin: None,
            simplified: None,
        }
    }

    /// The model without what inference does not need; says what was taken out.
    pub(crate) fn simplify(mut self) -> Outcome<Self> {
        let (graph, removed) = simplified(&self.graph)?;
        self.graph = graph;
        self.simplified = Some(removed);
        Ok(self)
    }

    /// The file and those beside it that hold its tensors.
    fn files(&self) -> Vec<PathBuf> {
        let beside = self.origin.as_ref().map(Origin::files_beside);
        let own = self.path.iter().cloned();
        own.chain(beside.unwrap_or_default()).collect()
    }

    /// The size of the file and of those beside it, for models that have one.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        let sizes = self.files().into_iter();
        let sizes = sizes.map(|path| Some(std::fs::metadata(path).ok()?.len()));
        sizes.reduce(|a, b| Some(a? + b?))?
    }

    /// The SHA-256 of the file, over those beside it too, for models that have one.
    pub(crate) fn sha256(&self) -> Outcome<Option<String>> {
        if self.path.is_none() {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        for path in self.files() {
            let mut file = File::open(&path).map_err(|e| Failure::io(&path, &e))?;
            io::copy(&mut file, &mut hash).map_err(|e| Failure::io(&path, &e))?;
        }
        let digest = hash.finalize();
        Ok(Some(digest.iter().map(|b| format!("{b:02x}")).collect()))
    }
}

/// A network without what inference does not need; says what was taken out.
pub(crate) fn simplified(graph: &Graph) -> Outcome<(Graph, Simplified)> {
    let (graph, removed) = simplify(graph)?;
    let part = |nodes: &[String], one: &str, many: &str| match nodes.len() {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let parts: Vec<String> = [
        part(&removed.norms, "batch norm folded", "batch norms folded"),
        part(
            &removed.identities,
            "identity removed",
            "identities removed",
        ),
        part(
            &removed.constants,
            "constant computed",
            "constants computed",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    note(match parts.is_empty() {
        true => "nothing to simplify".to_owned(),
        false => format!("simplified: {}", parts.join(", ")),
    });
    Ok((graph, removed))
}

/// Loads `zoo:NAME` or a file; a bare checkpoint needs the name of its network.
pub(crate) fn load(model: &Path, arch: &ArchArgs) -> Outcome<Loaded> {
    let options = Options {
        num_classes: arch.num_classes,
        input_side: arch.input_side,
        transform_input: arch.transform_input,
        k: arch.k,
        ..Options::default()
    };
    if let Some(name) = model.to_str().and_then(|text| text.strip_prefix("zoo:")) {
        return Ok(Loaded::made(rankfold_zoo::build(name, &options)?));
    }
    let model = &file_of(model);
    if let Some(format) = Format::of(FileKind::detect(model)?) {
        return exported(format, model, arch);
    }
    let checkpoint = match &arch.key {
        Some(key) => read_weights_at(model, key)?,
        None => read_weights(model)?,
    };
    let path = Some(model.to_owned());
    if let Some(described) = described_model(model, &checkpoint)? {
        check_no_arch(model, arch)?;
        return Ok(Loaded {
            graph: described.graph,
            record: described.record,
            path,
            origin: None,
            simplified: None,
        });
    }
    let weights: Weights = (checkpoint.tensors.iter())
        .map(|(name, tensor)| (WeightName::from(name), tensor.clone()))
        .collect();
    let Some(name) = &arch.arch else {
        return Err(unknown_network(model, &weights));
    };
    Ok(Loaded {
        graph: rankfold_zoo::load(name, &weights, &options)?,
        record: Map::new(),
        path,
        origin: None,
        simplified: None,
    })
}

/// Loads a file that was exported with its ops.
fn exported(format: Format, model: &Path, arch: &ArchArgs) -> Outcome<Loaded> {
    check_no_arch(model, arch)?;
    let (mut graph, origin) = format.read(model)?;
    // What exporters write where they are given no name.
    const NAMELESS: [&str; 5] = ["", "main_graph", "model", "torch_jit", "torch-jit-export"];
    if NAMELESS.contains(&graph.meta().name.as_str())
        && let Some(stem) = model.file_stem()
    {
        graph.meta_mut().name = stem.to_string_lossy().into_owned();
    }
    Ok(Loaded {
        graph,
        record: origin.record(),
        path: Some(model.to_owned()),
        origin: Some(origin),
        simplified: None,
    })
}

fn check_no_arch(model: &Path, arch: &ArchArgs) -> Outcome {
    match arch.arch {
        None => Ok(()),
        Some(_) => {
            let message = format!("{} describes its own network", model.display());
            Err(Failure::usage(message).hint("leave --arch out"))
        }
    }
}

/// The model inside a folder that `compress` wrote, as the kind of file that it was made from; other
/// paths as they are.
pub(crate) fn file_of(model: &Path) -> PathBuf {
    inside(model, Format::ALL)
}

/// The same for a file to be made of it: of a folder the one of its kind, else the weights, which hold codes
/// that files of other kinds do not.
pub(crate) fn file_for(model: &Path, format: Option<Format>) -> PathBuf {
    inside(model, format)
}

fn inside(model: &Path, formats: impl IntoIterator<Item = Format>) -> PathBuf {
    let exported = formats.into_iter().map(Format::file_name);
    exported
        .chain(["model.safetensors".to_owned()])
        .map(|name| model.join(name))
        .find(|inside| inside.is_file())
        .unwrap_or_else(|| model.to_owned())
}

/// True for a file of named tensors that does not say which network they belong to.
pub(crate) fn is_bare(model: &Path, arch: &ArchArgs) -> Outcome<bool> {
    let in_zoo = model.to_str().is_some_and(|text| text.starts_with("zoo:"));
    if in_zoo || arch.arch.is_some() {
        return Ok(false);
    }
    let model = &file_of(model);
    Ok(match FileKind::detect(model)? {
        FileKind::TorchZip | FileKind::TorchLegacy | FileKind::TorchNamed => true,
        FileKind::Safetensors | FileKind::SafetensorsIndex => {
            let checkpoint = read_weights(model)?;
            !checkpoint
                .metadata
                .contains_key(rankfold_formats::METADATA_KEY)
        }
        FileKind::TorchScript | FileKind::Pt2 | FileKind::Onnx => false,
    })
}

fn unknown_network(model: &Path, weights: &Weights) -> Failure {
    let failure = Failure::new(
        Kind::Usage,
        format!(
            "{} holds {} tensors and does not say which network they belong to",
            model.display(),
            weights.len()
        ),
    );
    match rankfold_zoo::closest(weights).into_iter().next() {
        Some(best) if best.score > 0.3 => failure.hint(format!(
            "`--arch {}` comes closest ({:.0} % of the tensors fit); \
             an exported .pt2 or ONNX file needs no --arch",
            best.network.name,
            100.0 * best.score
        )),
        _ => failure.hint(
            "no zoo network comes close (`rankfold zoo` lists them); \
             an exported .pt2 or ONNX file needs no --arch",
        ),
    }
}
