//! Pruning: what goes by which rule, cycles of training around it, and what the report says.

mod account;
mod cycles;
mod options;

pub(crate) use self::account::{account, zeros_line};
pub(crate) use self::cycles::{Cycles, School};
pub(crate) use self::options::{CycleArgs, RuleArgs};
