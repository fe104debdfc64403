//! Models that describe themselves: a safetensors file whose metadata hold the graph.

use std::collections::BTreeMap;
use std::path::Path;

use rankfold_graph::{DType, Graph, GraphSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::coded::{self, Codings};
use crate::error::FormatError;
use crate::packed::{pack, unpack};
use crate::weights::{Checkpoint, SaveOptions, write_safetensors};

/// The key of the metadata under which all that is ours is one JSON string, packed in files of coded
/// weights.
pub const METADATA_KEY: &str = "rankfold";

/// The version of that JSON that this crate writes and reads.
pub const MODEL_VERSION: u32 = 1;

/// What a file says of itself: its graph, and a record of how it was made.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    version: u32,
    graph: GraphSpec,
    #[serde(default, skip_serializing_if = "Codings::is_empty")]
    codes: Codings,
    #[serde(flatten)]
    record: Map<String, Value>,
}

/// A model out of a file that describes itself.
#[derive(Debug, Clone)]
pub struct Model {
    /// The network with its weights.
    pub graph: Graph,
    /// What else the file says: plan and provenance.
    pub record: Map<String, Value>,
}

/// Writes a graph as a safetensors file that needs nothing beside it, all or nothing. Coded weights are
/// stored as their codes.
pub fn write_model(
    path: &Path,
    graph: &Graph,
    record: &Map<String, Value>,
    float_dtype: Option<DType>,
) -> Result<(), FormatError> {
    let failed = |reason: String| FormatError::Description {
        path: path.to_owned(),
        reason,
    };
    let (tensors, codes) = coded::stored(graph.weights()).map_err(|e| failed(e.to_string()))?;
    let packed = !codes.is_empty();
    let description = Description {
        version: MODEL_VERSION,
        graph: GraphSpec::of(graph),
        codes,
        record: record.clone(),
    };
    let mut text = serde_json::to_string(&description).map_err(|e| failed(e.to_string()))?;
    if packed {
        text = pack(&text).map_err(|e| failed(e.to_string()))?;
    }
    let options = SaveOptions {
        metadata: BTreeMap::from([(METADATA_KEY.to_owned(), text)]),
        float_dtype,
    };
    write_safetensors(path, &tensors, &options)
}

/// The model that a checkpoint describes; none where it is a bare state dict.
pub fn described_model(path: &Path, checkpoint: &Checkpoint) -> Result<Option<Model>, FormatError> {
    let Some(text) = checkpoint.metadata.get(METADATA_KEY) else {
        return Ok(None);
    };
    let unreadable = |reason: String| FormatError::Description {
        path: path.to_owned(),
        reason,
    };
    let json = &unpack(text).map_err(unreadable)?;
    let version = serde_json::from_str::<Value>(json)
        .map_err(|e| unreadable(e.to_string()))?
        .get("version")
        .and_then(Value::as_u64);
    if version != Some(u64::from(MODEL_VERSION)) {
        return Err(FormatError::DescriptionVersion {
            path: path.to_owned(),
            expected: MODEL_VERSION,
            got: version,
        });
    }
    let description: Description =
        serde_json::from_str(json).map_err(|e| unreadable(e.to_string()))?;
    let weights = coded::weights(&checkpoint.tensors, description.codes);
    let weights = weights.map_err(|fault| FormatError::Coded {
        path: path.to_owned(),
        fault,
    })?;
    let graph = description.graph.into_graph(weights);
    let graph = graph.map_err(|source| FormatError::Graph {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    Ok(Some(Model {
        graph,
        record: description.record,
    }))
}
