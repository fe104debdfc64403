//! The model as data: nodes with typed ops, inferred shapes, named weights.
//!
//! A [`Graph`] is built by a [`GraphBuilder`], changed by a [`Patch`] and by nothing else, and
//! checked by [`Graph::verify`] before and after. It knows no file format and no runtime: an op that
//! is not understood is an [`ops::Opaque`], which is carried through unchanged.
//!
//! ```
//! use rankfold_graph::{CostModel, Fact, GraphBuilder, Patch, Tensor, ops::Linear};
//!
//! let linear = |weight: &str| Linear {
//!     weight: weight.into(),
//!     bias: None,
//! };
//! let mut builder = GraphBuilder::new("tiny");
//! let x = builder.input("x", Fact::batch_of(&[40]))?;
//! builder.weight("fc", Tensor::from_f32(vec![30, 40], vec![0.5; 1200])?);
//! let y = builder.op("fc", linear("fc"), &[x])?;
//! let mut graph = builder.finish(&[y])?;
//!
//! // Two layers of rank one in place of the one layer.
//! let mut patch = Patch::new("by hand");
//! patch.weight("narrow", Tensor::from_f32(vec![1, 40], vec![0.5; 40])?);
//! patch.weight("wide", Tensor::from_f32(vec![30, 1], vec![1.0; 30])?);
//! let narrow = patch.node("narrow", linear("narrow"), &[x.into()]);
//! let wide = patch.node("wide", linear("wide"), &[narrow]);
//! patch.redirect(y, wide);
//! patch.apply(&mut graph)?;
//! assert_eq!(graph.cost(CostModel::True).unwrap().parameters, 70);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
