//! The tensors of an archive: which storage each looks into, and how.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use indexmap::IndexMap;
use rankfold_graph::Tensor;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::Pt2Fault;
use super::schema::{Payload, SymInt, TensorMeta, dtype_of};
use crate::archive::Archive;
use crate::error::FormatError;
use crate::strided::{Strided, StridedFault};

/// The two folders of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The state dict.
    Weight,
    /// Tensors that it leaves out.
    Constant,
}

impl Kind {
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Weight => "data/weights/",
            Self::Constant => "data/constants/",
        }
    }

    /// What the names of storages begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Weight => "weight_",
            Self::Constant => "tensor_",
        }
    }

    pub(super) fn config(self, model: &str) -> String {
        let what = match self {
            Self::Weight => "weights",
            Self::Constant => "constants",
        };
        format!("{}{model}_{what}_config.json", self.folder())
    }
}

/// A tensor of the archive.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) kind: Kind,
    pub(super) payload: Payload,
    /// The whole storage.
    pub(super) storage: Bytes,
    /// The tensor itself; none where the graph does not have its type.
    pub(super) tensor: Option<Tensor>,
}

#[derive(Deserialize)]
struct Config {
    config: UniqueMap,
}

/// A map that refuses to have a key twice.
struct UniqueMap(IndexMap<String, Payload>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = UniqueMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap, A::Error> {
                let mut entries = IndexMap::new();
                while let Some((name, payload)) = map.next_entry::<String, Payload>()? {
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format!("two tensors are named `{name}`")));
                    }
                    entries.insert(name, payload);
                }
                Ok(UniqueMap(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// All tensors of `model`, the state dict first.
pub(super) fn read(
    archive: &Archive,
    model: &str,
) -> Result<IndexMap<String, Stored>, FormatError> {
    let failed = |fault| Pt2Fault::of_file(archive.path(), fault);
    let mut all = IndexMap::new();
    for kind in [Kind::Weight, Kind::Constant] {
        let legacy = format!("{}{model}.pt", kind.folder());
        if archive.find(&legacy).is_some() {
            return Err(failed(Pt2Fault::Pickle { entry: legacy }));
        }
        let entry = kind.config(model);
        let json = archive.read(&entry)?;
        let config: Config = serde_json::from_slice(&json)
            .map_err(|source| failed(Pt2Fault::Json { entry, source }))?;
        let mut storages: HashMap<String, Bytes> = HashMap::new();
        for (name, payload) in config.config.0 {
            if payload.use_pickle {
                let entry = format!("{}{}", kind.folder(), payload.path_name);
                return Err(failed(Pt2Fault::Pickle { entry }));
            }
            let storage = match storages.get(&payload.path_name) {
                Some(storage) => storage.clone(),
                None => {
                    let entry = format!("{}{}", kind.folder(), payload.path_name);
                    let storage = archive.read(&entry)?;
                    storages.insert(payload.path_name.clone(), storage.clone());
                    storage
                }
            };
            let tensor = tensor(&name, kind, &payload, &storage).map_err(failed)?;
            let stored = Stored {
                kind,
                payload,
                storage,
                tensor,
            };
            if all.insert(name.clone(), stored).is_some() {
                return Err(failed(Pt2Fault::Duplicate { name }));
            }
        }
    }
    Ok(all)
}

/// The tensor that `payload` sees in `storage`.
fn tensor(
    name: &str,
    kind: Kind,
    payload: &Payload,
    storage: &Bytes,
) -> Result<Option<Tensor>, Pt2Fault> {
    let no_shape = || Pt2Fault::Shape {
        tensor: name.to_owned(),
    };
    let meta = payload.tensor_meta.as_ref().ok_or_else(no_shape)?;
    let (shape, strides, offset) = geometry(meta).ok_or_else(no_shape)?;
    let Some(dtype) = dtype_of(meta.dtype) else {
        return Ok(None);
    };
    let strided = Strided {
        dtype,
        offset,
        shape: &shape,
        strides: &strides,
    };
    let entry = format!("{}{}", kind.folder(), payload.path_name);
    strided
        .read(storage)
        .map(Some)
        .map_err(|fault| match fault {
            StridedFault::OutOfStorage { .. } => Pt2Fault::OutOfStorage {
                tensor: name.to_owned(),
                shape: shape.clone(),
                strides: strides.clone(),
                offset,
                entry,
                available: storage.len(),
            },
            StridedFault::Repeats { .. } => Pt2Fault::Repeats {
                tensor: name.to_owned(),
                shape: shape.clone(),
                entry,
            },
        })
}

/// Shape, strides and offset, where all are numbers.
fn geometry(meta: &TensorMeta) -> Option<(Vec<usize>, Vec<usize>, usize)> {
    let number = |size: &SymInt| usize::try_from(size.int()?).ok();
    let numbers = |sizes: &[SymInt]| sizes.iter().map(number).collect::<Option<Vec<usize>>>();
    Some((
        numbers(&meta.sizes)?,
        numbers(&meta.strides)?,
        number(&meta.storage_offset)?,
    ))
}

/// Where a tensor is: two of the same place are one.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Place<'a> {
    kind: Kind,
    path: &'a str,
    meta: Vec<i64>,
}

impl Stored {
    /// Where the tensor is.
    pub(super) fn place(&self) -> Place<'_> {
        let meta = self.payload.tensor_meta.as_ref();
        let meta = meta.map(|meta| {
            let numbers = meta.sizes.iter().chain(&meta.strides);
            let numbers = numbers.chain(std::iter::once(&meta.storage_offset));
            let numbers = numbers.map(|n| n.int().unwrap_or(-1));
            numbers.chain([meta.dtype as i64]).collect()
        });
        Place {
            kind: self.kind,
            path: &self.payload.path_name,
            meta: meta.unwrap_or_default(),
        }
    }
}
