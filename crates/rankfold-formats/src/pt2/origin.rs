//! What a graph was when it was read.

use std::collections::HashMap;

use bytes::Bytes;
use indexmap::IndexMap;
use rankfold_graph::WeightName;

use super::inplace::InPlace;
use super::payload::Stored;
use super::schema::Program;
use crate::imported::Group;
use crate::map::Mapping;

/// The archive that a graph came from: its program as it was, and all that the graph does not hold.
#[derive(Debug, Clone)]
pub struct Pt2Origin {
    /// The program's name in the archive.
    pub(super) model: String,
    pub(super) program: Program,
    /// Its tensors.
    pub(super) tensors: IndexMap<String, Stored>,
    /// The tensor that each of the program's inputs stands for; the first of several equal ones.
    pub(super) canonical: HashMap<String, WeightName>,
    /// Which nodes of the graph came from which of the file.
    pub(super) groups: Vec<Group>,
    /// What its in-place ops mean.
    pub(super) in_place: InPlace,
    /// Other files of the archive: those of the user, and the inputs that it was exported with.
    pub(super) extra: Vec<(String, Bytes)>,
    pub(super) mapping: Mapping,
}

impl Pt2Origin {
    /// The strings that were saved with the program, by name.
    pub fn extra(&self) -> impl Iterator<Item = (&str, &str)> {
        self.extra.iter().filter_map(|(name, data)| {
            let name = name.strip_prefix("extra/")?;
            Some((name, std::str::from_utf8(data).ok()?))
        })
    }
}
