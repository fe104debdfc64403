//! Data sets as batches of normalised inputs: MNIST and Fashion-MNIST, CIFAR-10 and CIFAR-100,
//! image folders, tensor files and a built-in synthetic set.
//!
//! ```
//! use rankfold_data::{DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization, Split};
//!
//! let spec: DataSpec = "shapes:7".parse()?;
//! let split: Split = "test[:100]".parse()?;
//! let data = Dataset::open(&spec, &split, ImageSize::default())?;
//! let loader = Loader::new(data, LoaderOptions::evaluate(64, Normalization::unit()))?;
//! for batch in loader.epoch(0, 0)? {
//!     let batch = batch?;
//!     assert_eq!(batch.inputs[0].shape[1..], [3, 32, 32]);
//! }
//! # Ok::<(), rankfold_data::DataError>(())
//! ```

mod augment;
mod batch;
mod bytes;
mod cifar;
mod dataset;
mod error;
mod folder;
mod frame;
mod idx;
mod loader;
mod locate;
mod mnist;
mod normalize;
mod rng;
mod shapes;
mod source;
mod spec;
mod split;
mod tensors;

pub use augment::{Augment, Crop};
pub use batch::{Batch, Buffer, Input, TensorData};
pub use dataset::{Dataset, Image};
pub use error::{DataError, ErrorKind};
pub use loader::{Batches, Loader, LoaderOptions};
pub use normalize::Normalization;
pub use source::ImageSize;
pub use spec::DataSpec;
pub use split::{Part, Split};
