//! Watching and stopping a long run.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{DecomposeError, Result};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The algorithm that is running, for example `"block Krylov"`.
    pub stage: &'static str,
    /// Steps done.
    pub step: usize,
    /// The largest number of steps it may take; it may stop earlier.
    pub max_steps: usize,
    /// The relative error so far, where the algorithm knows it.
    pub relative_error: Option<f64>,
}

/// A caller's hold on a run: a progress callback and a cancel flag, both optional.
///
/// `Control::default()` neither reports nor cancels.
#[derive(Clone, Copy, Default)]
pub struct Control<'a> {
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    cancel: Option<&'a AtomicBool>,
}

impl<'a> Control<'a> {
    /// This control with `callback` called after every step.
    pub fn on_progress(mut self, callback: &'a (dyn Fn(Progress) + Sync)) -> Self {
        self.progress = Some(callback);
        self
    }

    /// This control with a flag that ends the run with [`DecomposeError::Cancelled`] once it is set.
    pub fn cancel_with(mut self, flag: &'a AtomicBool) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Reports a step, then fails if the caller has cancelled.
    pub(crate) fn step(&self, progress: Progress) -> Result<()> {
        if let Some(callback) = self.progress {
            callback(progress);
        }
        self.check()
    }

    /// Fails if the caller has cancelled.
    pub fn check(&self) -> Result<()> {
        match self.cancel {
            Some(flag) if flag.load(Ordering::Relaxed) => Err(DecomposeError::Cancelled),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("progress", &self.progress.is_some())
            .field("cancel", &self.cancel)
            .finish()
    }
}
