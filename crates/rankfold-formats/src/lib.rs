//! Bytes to tensors and graphs, and back: safetensors, PyTorch pickles, `.ot`, `.pt2` and ONNX.
//!
//! [`read_weights`] opens whatever file of named tensors it is given and tells its kind by its
//! content. Tensors are views of the mapped file wherever the file stores them contiguously.
//! Every reader takes its bytes for hostile: counts are checked before anything is allocated, and
//! no pickle is ever executed.
//!
//! ```
//! use rankfold_formats::{SaveOptions, StateDict, read_weights, write_safetensors};
//! use rankfold_graph::Tensor;
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("weights.safetensors");
//! let mut weights = StateDict::new();
//! weights.insert("fc.bias", Tensor::from_f32(vec![3], vec![0.1, 0.2, 0.3])?)?;
//! write_safetensors(&path, &weights, &SaveOptions::default())?;
//!
//! let read = read_weights(&path)?.tensors;
//! assert_eq!(read.get("fc.bias"), weights.get("fc.bias"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod atomic;
mod coded;
mod error;
mod imported;
mod kind;
mod map;
mod model;
mod onnx;
mod packed;
mod pickle;
mod pt2;
mod python;
mod readable;
mod strided;
mod weights;

pub use archive::{Archive, ArchiveFault};
pub use atomic::write_atomically;
pub use coded::CodedFault;
pub use error::FormatError;
pub use kind::FileKind;
pub use model::{METADATA_KEY, MODEL_VERSION, Model, described_model, write_model};
pub use onnx::{OnnxFault, OnnxOptions, OnnxOrigin, read_onnx, write_onnx};
pub use pickle::{MachineFault, PickleFault};
pub use pt2::{Pt2Fault, Pt2Options, Pt2Origin, read_pt2, write_pt2};
pub use python::python_module;
pub use readable::with_module_names;
pub use weights::{
    Checkpoint, DuplicateTensor, Mismatch, NonFinite, SafetensorsFault, SaveOptions, StateDict,
    WrongShape, read_weights, read_weights_at, write_safetensors,
};
