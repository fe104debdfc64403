//! Training of compressed networks on libtorch.
//!
//! [`train()`] teaches one network for one stage: from labels, from another network's answers, or from
//! both. A [`Course`] is a row of stages, before each of which some layers are decomposed.

mod blocks;
mod course;
mod error;
mod exam;
mod guard;
mod loss;
mod mix;
mod optimizer;
mod random;
mod recipe;
mod schedule;
mod stages;
mod state;
mod train;

pub use course::{Course, Graduate, News, StageRecord};
pub use error::{FinetuneError, Result};
pub use exam::Mark;
pub use optimizer::Method;
pub use random::{distorted, random_factors};
pub use recipe::{Aim, Length, Penalty, Recipe, Teaching};
pub use schedule::Fall;
pub use stages::{Freeze, Order, Stage, stages};
pub use state::{Epoch, State};
pub use train::{Event, Progress, Task, Trained, train};
