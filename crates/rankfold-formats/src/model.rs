//! Models that describe themselves: a safetensors file whose metadata hold the graph.

use std::collections::BTreeMap;
use std::path::Path;

use rankfold_graph::{DType, Graph, GraphSpec, WeightName, Weights};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::FormatError;
use crate::weights::{Checkpoint, SaveOptions, StateDict, write_safetensors};

/// The key of the metadata under which all that is ours is one JSON string.
pub const METADATA_KEY: &str = "rankfold";

/// The version of that JSON that this crate writes and reads.
pub const MODEL_VERSION: u32 = 1;

/// What a file says of itself: its graph, and a record of how it was made.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    version: u32,
    graph: GraphSpec,
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

/// Writes a graph as a safetensors file that needs nothing beside it, all or nothing.
pub fn write_model(
    path: &Path,
    graph: &Graph,
    record: &Map<String, Value>,
    float_dtype: Option<DType>,
) -> Result<(), FormatError> {
    let description = Description {
        version: MODEL_VERSION,
        graph: GraphSpec::of(graph),
        record: record.clone(),
    };
    let json = serde_json::to_string(&description).map_err(|e| FormatError::Description {
        path: path.to_owned(),
        reason: e.to_string(),
    })?;
    let tensors: StateDict = (graph.weights().iter())
        .map(|(name, tensor)| (name.to_string(), tensor.clone()))
        .collect();
    let options = SaveOptions {
        metadata: BTreeMap::from([(METADATA_KEY.to_owned(), json)]),
        float_dtype,
    };
    write_safetensors(path, &tensors, &options)
}

/// The model that a checkpoint describes; none where it is a bare state dict.
pub fn described_model(path: &Path, checkpoint: &Checkpoint) -> Result<Option<Model>, FormatError> {
    let Some(json) = checkpoint.metadata.get(METADATA_KEY) else {
        return Ok(None);
    };
    let unreadable = |reason: String| FormatError::Description {
        path: path.to_owned(),
        reason,
    };
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
    let weights: Weights = (checkpoint.tensors.iter())
        .map(|(name, tensor)| (WeightName::from(name), tensor.clone()))
        .collect();
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
