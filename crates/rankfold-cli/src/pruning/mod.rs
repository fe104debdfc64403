//! Pruning: what goes by which rule, cycles of training around it, and what the report says.

mod account;
mod cycles;
mod journal;
mod options;
mod thinned;

pub(crate) use self::account::{account, told};
pub(crate) use self::cycles::{Cycles, School};
pub(crate) use self::options::{CycleArgs, RuleArgs};
pub(crate) use self::thinned::Thinned;
