//! From what the user names to a graph.

use std::path::{Path, PathBuf};

use rankfold_formats::{FileKind, described_model, read_weights, read_weights_at};
use rankfold_graph::{Graph, WeightName, Weights};
use rankfold_zoo::Options;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::args::ArchArgs;
use crate::failure::{Failure, Kind, Outcome};

/// A model as it was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The network with its weights.
    pub(crate) graph: Graph,
    /// What the file says of its making, where it describes itself.
    pub(crate) record: Map<String, Value>,
    /// The file, for models that have one.
    pub(crate) path: Option<PathBuf>,
}

impl Loaded {
    /// The size of the file, for models that have one.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        Some(std::fs::metadata(self.path.as_ref()?).ok()?.len())
    }

    /// The SHA-256 of the file, for models that have one.
    pub(crate) fn sha256(&self) -> Outcome<Option<String>> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        let mut file = std::fs::File::open(path).map_err(|e| Failure::io(path, &e))?;
        let mut hash = Sha256::new();
        std::io::copy(&mut file, &mut hash).map_err(|e| Failure::io(path, &e))?;
        let digest = hash.finalize();
        Ok(Some(digest.iter().map(|b| format!("{b:02x}")).collect()))
    }
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
        return Ok(Loaded {
            graph: rankfold_zoo::build(name, &options)?,
            record: Map::new(),
            path: None,
        });
    }
    let model = &file_of(model);
    let checkpoint = match &arch.key {
        Some(key) => read_weights_at(model, key)?,
        None => read_weights(model)?,
    };
    let path = Some(model.to_owned());
    if let Some(described) = described_model(model, &checkpoint)? {
        if arch.arch.is_some() {
            return Err(
                Failure::usage(format!("{} describes its own network", model.display()))
                    .hint("leave --arch out"),
            );
        }
        return Ok(Loaded {
            graph: described.graph,
            record: described.record,
            path,
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
    })
}

/// The model inside a folder that `compress` wrote; other paths as they are.
pub(crate) fn file_of(model: &Path) -> PathBuf {
    let inside = model.join("model.safetensors");
    match inside.is_file() {
        true => inside,
        false => model.to_owned(),
    }
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
