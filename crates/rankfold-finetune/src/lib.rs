//! Training of compressed networks on libtorch.
//!
//! [`distill()`] teaches a compressed network to answer as the original does, without labels.

mod blocks;
mod distill;
mod error;
mod optimizer;
mod schedule;
mod step;

pub use blocks::shared_blocks;
pub use distill::{Distillation, Progress, distill};
pub use error::{FinetuneError, Result};
pub use optimizer::AdamW;
pub use schedule::Schedule;
