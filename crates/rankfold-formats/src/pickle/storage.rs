//! Storages and the tensors that look into them.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use rankfold_graph::Tensor;

use super::globals::Element;
use super::machine::{Declared, ElementKey, Machine, View};
use super::{PickleFault, wrap};
use crate::error::FormatError;
use crate::strided::{Strided, StridedFault};
use crate::weights::StateDict;

/// The bytes of the storages that a pickle declares.
pub(crate) struct Storages<'a> {
    declared: &'a [Declared],
    bytes: Vec<Option<Bytes>>,
}

impl<'a> Storages<'a> {
    /// Storages without their bytes yet.
    pub(crate) fn new(machine: &'a Machine) -> Self {
        Self {
            declared: machine.storages(),
            bytes: vec![None; machine.storages().len()],
        }
    }

    /// Gives storage `index` its bytes, of which there may be more than it declares.
    pub(crate) fn supply(&mut self, index: usize, bytes: Bytes) -> Result<(), PickleFault> {
        let declared = &self.declared[index];
        let size = match declared.element {
            Element::Known(dtype) => dtype.size(),
            Element::Untyped | Element::Unknown(_) => 1,
        };
        let expected = declared.len.checked_mul(size).filter(|&n| n <= bytes.len());
        let Some(expected) = expected else {
            return Err(PickleFault::ShortStorage {
                key: declared.key.to_string(),
                expected: declared.len.saturating_mul(size) as u64,
                got: bytes.len() as u64,
            });
        };
        let whole = matches!(declared.element, Element::Unknown(_));
        self.bytes[index] = Some(if whole {
            bytes
        } else {
            bytes.slice(..expected)
        });
        Ok(())
    }

    /// The tensors that `views` describe. Equal views of one storage share their bytes.
    pub(crate) fn resolve(
        &self,
        path: &Path,
        views: Vec<(String, Rc<View>)>,
    ) -> Result<StateDict, FormatError> {
        let mut seen: HashMap<Rc<View>, Tensor> = HashMap::new();
        let mut dict = StateDict::new();
        for (name, view) in views {
            let tensor = match seen.get(&view) {
                Some(tensor) => tensor.clone(),
                None => {
                    let tensor = self.tensor(&name, &view).map_err(wrap(path))?;
                    seen.insert(view, tensor.clone());
                    tensor
                }
            };
            dict.insert(name, tensor)
                .map_err(|fault| FormatError::Duplicate {
                    path: path.to_owned(),
                    fault,
                })?;
        }
        Ok(dict)
    }

    fn tensor(&self, name: &str, view: &View) -> Result<Tensor, PickleFault> {
        let dtype = match view.element {
            ElementKey::Known(dtype) => dtype,
            ElementKey::Unknown(got) => {
                return Err(PickleFault::Dtype {
                    tensor: name.to_owned(),
                    got: got.to_owned(),
                });
            }
        };
        let Some(bytes) = &self.bytes[view.storage] else {
            let key = self.declared[view.storage].key.to_string();
            return Err(PickleFault::MissingStorage { key });
        };
        let strided = Strided {
            dtype,
            offset: view.offset,
            shape: &view.shape,
            strides: &view.strides,
        };
        strided.read(bytes).map_err(|fault| match fault {
            StridedFault::OutOfStorage { available } => PickleFault::OutOfStorage {
                tensor: name.to_owned(),
                shape: view.shape.clone(),
                strides: view.strides.clone(),
                offset: view.offset,
                available,
            },
            StridedFault::Repeats { available } => PickleFault::Repeats {
                tensor: name.to_owned(),
                shape: view.shape.clone(),
                available,
            },
        })
    }
}
