//! Sweeps: what is measured of each layer alone, as records, and what can be read off them.
//!
//! Nothing here runs a model. [`grid`] lists the cells of a sweep, [`Replacements`] makes what is to be
//! measured, [`Sweep`] and [`Cell`] are what a folder holds, [`Evidence`] is what selection is given.

mod cell;
mod description;
mod evidence;
mod grid;
mod monotone;
mod replace;

pub use cell::{Cell, Changed, Share};
pub use description::{
    Baseline, Calibrated, Protocol, SWEEP_VERSION, Sweep, SweptData, SweptForm, SweptLayer,
    SweptModel,
};
pub use evidence::{Answer, Evidence, Judge};
pub use grid::{GridRequest, grid};
pub use replace::Replacements;
