//! The model as data: nodes with typed ops, inferred shapes, named weights.
//!
//! A [`Graph`] is built by a [`GraphBuilder`], changed by a [`Patch`] and by nothing else, and
//! checked by [`Graph::verify`] before and after. It knows no file format and no runtime: an op that
//! is not understood is an [`ops::Opaque`], which is carried through unchanged.

mod builder;
mod code;
mod cost;
mod cut;
mod dump;
mod error;
mod graph;
mod meta;
mod op;
pub mod ops;
mod patch;
mod serial;
mod shape;
mod tensor;
mod verify;
mod weights;

pub use builder::GraphBuilder;
pub use code::{Book, Code, CodeError, Int8};
pub use cost::{Cost, CostModel, PaperSize};
pub use cut::Halves;
pub use error::{GraphError, OpError};
pub use graph::{Graph, Node, Value, ValueId, WeightMismatch};
pub use meta::{Meta, Normalization};
pub use op::{Op, Operation, Role};
pub use patch::{Patch, Wire};
pub use serial::GraphSpec;
pub use shape::{Dim, Fact};
pub use tensor::{DType, Tensor, TensorError, element_count};
pub use weights::{WeightName, Weights};
