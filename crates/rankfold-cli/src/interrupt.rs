//! Ctrl-C: the first asks the work at hand to stop, the second ends the process.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, Outcome};
use crate::output::note;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C and SIGTERM from here on.
pub(crate) fn listen() {
    let handled = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        note("stopping after the step at hand; again, and it ends at once");
    });
    drop(handled);
}

/// True once the user has asked to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// What a loop should do: end, once the user has asked to stop.
pub(crate) fn flow() -> ControlFlow<()> {
    match requested() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// The flag itself, for those who watch it.
pub(crate) fn flag() -> &'static AtomicBool {
    &REQUESTED
}

/// An error once the user has asked to stop.
pub(crate) fn check() -> Outcome {
    match requested() {
        true => Err(Failure::interrupted()),
        false => Ok(()),
    }
}
