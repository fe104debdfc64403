//! What a graph was when it was read.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rankfold_graph::Tensor;

use super::PER_CHANNEL;
use super::proto::{ModelProto, TensorProto};
use crate::imported::Group;
use crate::map::Mapping;

/// The file that a graph came from: its nodes as they were, and all that the graph does not hold.
#[derive(Debug, Clone)]
pub struct OnnxOrigin {
    /// The model without its initializers.
    pub(super) model: ModelProto,
    /// The initializers, in order.
    pub(super) initializers: IndexMap<String, Initializer>,
    /// Which nodes of the graph came from which of the file.
    pub(super) groups: Vec<Group>,
    /// The version of the operators.
    pub(super) opset: i64,
    /// The mapped files that hold the tensors.
    pub(super) mappings: Vec<Mapping>,
    /// The files beside the model that hold tensors.
    pub(super) beside: Vec<PathBuf>,
}

/// A tensor of the file.
#[derive(Debug, Clone)]
pub(super) struct Initializer {
    /// The file's entry: without data where `tensor` has it, whole where the type is not known.
    pub(super) proto: TensorProto,
    pub(super) tensor: Option<Tensor>,
}

impl OnnxOrigin {
    /// The version of ONNX's operators that the file uses.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Whether 8-bit weights with a scale for every channel can be written in these operators.
    pub fn has_channel_scales(&self) -> bool {
        self.opset >= PER_CHANNEL
    }

    /// The files beside the model's own that hold its tensors, in the order of their names.
    pub fn files_beside(&self) -> impl Iterator<Item = &Path> {
        self.beside.iter().map(PathBuf::as_path)
    }

    /// The file's own strings.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.model
            .metadata_props
            .iter()
            .map(|p| (p.key(), p.value()))
    }
}
