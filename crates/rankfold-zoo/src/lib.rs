//! Networks by name, as graphs whose weights have torchvision's names.
//!
//! [`build`] makes a network with seeded random weights, [`load`] one with the weights of a
//! checkpoint, and [`closest`] says which network a bare state dict most likely belongs to.
//! A family of networks is one file under `networks/` and one line in its list.

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
