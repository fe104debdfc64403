//! Networks by name, as graphs whose weights have torchvision's names.
//!
//! [`build`] makes a network with seeded random weights, [`load`] one with the weights of a
//! checkpoint, and [`closest`] says which network a bare state dict most likely belongs to.
//! A family of networks is one file under `networks/` and one line in its list.
//!
//! ```
//! use rankfold_graph::CostModel;
//! use rankfold_zoo::{Options, build, find};
//!
//! assert_eq!(find("resnet20")?.input, [3, 32, 32]);
//! let graph = build("resnet20", &Options::default())?;
//! assert_eq!(graph.cost(CostModel::True).unwrap().parameters, 269_722);
//! # Ok::<(), rankfold_zoo::ZooError>(())
//! ```

mod closest;
mod error;
mod fill;
mod net;
mod network;
mod networks;
mod options;
mod scheme;

pub use closest::{Match, closest, infer_options};
pub use error::ZooError;
pub use network::{Network, build, find, list, load};
pub use options::{InitialWeights, Options};
