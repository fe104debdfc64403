//! The program's inputs: values of the graph, tensors of the archive, and what is neither.

use std::collections::HashMap;

use indexmap::IndexMap;
use rankfold_graph::WeightName;
use serde_json::Value;

use super::{Import, Slot};
use crate::pt2::Pt2Fault;
use crate::pt2::arguments::{output_name, tensor_name};
use crate::pt2::payload::{Place, Stored};

impl Import<'_> {
    /// Takes in the program's inputs; returns which weight each of its tensors is.
    pub(super) fn inputs(
        &mut self,
        specs: &[Value],
        tensors: &IndexMap<String, Stored>,
    ) -> Result<HashMap<String, WeightName>, Pt2Fault> {
        let inputs = &self.file.inputs;
        if inputs.len() != specs.len() {
            return Err(Pt2Fault::SignatureLength {
                what: "inputs",
                graph: inputs.len(),
                signature: specs.len(),
            });
        }
        let mut twins: HashMap<Place<'_>, WeightName> = HashMap::new();
        let mut canonical = HashMap::new();
        for (index, (input, spec)) in inputs.iter().zip(specs).enumerate() {
            let spec = InputSpec::of(spec).ok_or(Pt2Fault::Spec {
                what: "input",
                index,
            })?;
            let name = tensor_name(input).or(output_name(input).map(|(n, _)| n));
            if let (Some(input), Some(spec)) = (name, spec.name)
                && input != spec
            {
                return Err(Pt2Fault::Signature {
                    index,
                    input: input.to_owned(),
                    spec: spec.to_owned(),
                });
            }
            let Some(name) = name.or(spec.name) else {
                continue;
            };
            let slot = match spec.tensor {
                Some(fqn) => {
                    let stored = tensors.get(fqn).ok_or_else(|| Pt2Fault::MissingTensor {
                        tensor: fqn.to_owned(),
                        input: name.to_owned(),
                    })?;
                    match &stored.tensor {
                        None => Slot::Outside,
                        Some(tensor) => {
                            let first = twins.entry(stored.place()).or_insert_with(|| fqn.into());
                            canonical.insert(fqn.to_owned(), first.clone());
                            self.weights.insert(first.clone(), tensor.clone());
                            if spec.learnable {
                                self.learnable.insert(first.clone());
                            }
                            Slot::Weight(first.clone())
                        }
                    }
                }
                None if spec.is_user && tensor_name(input).is_some() => {
                    let meta = self.file.tensor_values.get(name);
                    let fact = meta.and_then(|meta| meta.fact());
                    let fact = fact.ok_or_else(|| Pt2Fault::Undescribed {
                        value: name.to_owned(),
                    })?;
                    let id = self.builder.input(name, fact).map_err(Pt2Fault::graph)?;
                    Slot::Value(id)
                }
                None => Slot::Outside,
            };
            self.define(name, slot)?;
        }
        Ok(canonical)
    }
}

/// What the signature says of an input.
struct InputSpec<'a> {
    name: Option<&'a str>,
    /// The tensor that it stands for.
    tensor: Option<&'a str>,
    learnable: bool,
    is_user: bool,
}

impl<'a> InputSpec<'a> {
    fn of(spec: &'a Value) -> Option<Self> {
        let (kind, spec) = spec.as_object()?.iter().next()?;
        let text = |key: &str| spec.get(key)?.as_str();
        let name = || spec.get("arg")?.get("name")?.as_str();
        let tensor = |key: &str| {
            Some(Self {
                name: Some(name()?),
                tensor: Some(text(key)?),
                learnable: kind == "parameter",
                is_user: false,
            })
        };
        match kind.as_str() {
            "parameter" => tensor("parameter_name"),
            "buffer" => tensor("buffer_name"),
            "tensor_constant" => tensor("tensor_constant_name"),
            "user_input" => Some(Self {
                name: output_name(spec.get("arg")?).map(|(name, _)| name),
                tensor: None,
                learnable: false,
                is_user: true,
            }),
            "constant_input" => Some(Self {
                name: text("name"),
                tensor: None,
                learnable: false,
                is_user: false,
            }),
            _ => Some(Self {
                name: name(),
                tensor: None,
                learnable: false,
                is_user: false,
            }),
        }
    }
}
