//! A model split over several safetensors files, and the index that says which tensor is where.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use super::{StateDict, safetensors};
use crate::error::FormatError;
use crate::map::map_file;

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    weight_map: IndexMap<String, String>,
}

/// The tensors that the index at `path` lists, in its order.
pub(crate) fn read(
    path: &Path,
    bytes: &Bytes,
) -> Result<(StateDict, BTreeMap<String, String>), FormatError> {
    if bytes.len() as u64 > safetensors::HEADER_LIMIT {
        return Err(FormatError::Safetensors {
            path: path.to_owned(),
            fault: safetensors::SafetensorsFault::HeaderTooLarge {
                got: bytes.len() as u64,
                limit: safetensors::HEADER_LIMIT,
            },
        });
    }
    let index: Index = serde_json::from_slice(bytes).map_err(|source| FormatError::Json {
        path: path.to_owned(),
        source,
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut shards: HashMap<&str, StateDict> = HashMap::new();
    let mut tensors = StateDict::new();
    for (name, shard) in &index.weight_map {
        if !shards.contains_key(shard.as_str()) {
            if !is_plain_name(shard) {
                return Err(FormatError::ShardOutside {
                    path: path.to_owned(),
                    shard: shard.clone(),
                });
            }
            let file = folder.join(shard);
            let (dict, _) = safetensors::read(&file, &map_file(&file)?)?;
            shards.insert(shard, dict);
        }
        let Some(tensor) = shards.get(shard.as_str()).and_then(|dict| dict.get(name)) else {
            return Err(FormatError::MissingFromShard {
                path: path.to_owned(),
                tensor: name.clone(),
                shard: shard.clone(),
            });
        };
        // Names are unique: they come from a map.
        let _ = tensors.insert(name, tensor.clone());
    }
    let text = |value: Value| match value {
        Value::String(s) => s,
        other => other.to_string(),
    };
    let metadata = index
        .metadata
        .into_iter()
        .map(|(k, v)| (k, text(v)))
        .collect();
    Ok((tensors, metadata))
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
