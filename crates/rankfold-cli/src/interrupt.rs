//! Ctrl-C: the first asks the work at hand to stop, the second ends the process.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::failure::{Failure, Outcome};
use crate::output::note;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C and SIGTERM from here on.
pub(crate) fn listen() {
    // Without a listener they end the process, as they do anywhere.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
        return;
    };
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if REQUESTED.swap(true, Ordering::SeqCst) {
                // Nothing is torn down: other threads still use libtorch.
                low_level::exit(130);
            }
            note("stopping after the step at hand; again, and it ends at once");
        }
    });
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
