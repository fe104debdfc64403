//! Named weights, shared between the graphs and the files that hold them.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::tensor::Tensor;

/// The name a weight has in a state dict.
pub type WeightName = Arc<str>;

/// Weights by name, in the order in which they were added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights(IndexMap<WeightName, Tensor>);

impl Weights {
    /// No weights.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// True where there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a tensor and returns the one that it replaced.
    pub fn insert(&mut self, name: impl Into<WeightName>, tensor: Tensor) -> Option<Tensor> {
        self.0.insert(name.into(), tensor)
    }

    /// Takes a tensor out, keeping the order of the others.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.0.shift_remove(name)
    }

    /// Keeps the tensors that `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Tensor) -> bool) {
        self.0.retain(|name, tensor| keep(name, tensor));
    }

    /// Names and tensors, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&WeightName, &Tensor)> {
        self.0.iter()
    }

    /// Names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &WeightName> {
        self.0.keys()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(WeightName, Tensor)> for Weights {
    fn from_iter<I: IntoIterator<Item = (WeightName, Tensor)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}
