//! What `sweep` does, and what is read off a sweep.

mod folder;
mod measure;
mod shard;
mod summary;
mod train;

pub(crate) use folder::{SweepFolder, merge, read};
pub(crate) use measure::{Measuring, measure};
pub(crate) use shard::Shard;
pub(crate) use summary::summary;
pub(crate) use train::Training;
