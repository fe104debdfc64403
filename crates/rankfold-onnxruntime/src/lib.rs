//! Models on ONNX Runtime, whose library is opened at run time.
//!
//! Nothing of it is linked: a program that never calls [`Library::open`] needs no ONNX Runtime.

mod engine;
mod error;
mod session;

pub use engine::OnnxRuntime;
pub use error::RuntimeError;
pub use session::{Library, Session};
