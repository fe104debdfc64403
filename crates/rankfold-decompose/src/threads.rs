//! The thread policy: one argument, no global state.

use rayon::prelude::*;

/// How many cores a decomposition may use.
///
/// The choice changes the time, never the bits: work is cut into pieces whose borders depend on
/// the shapes alone, and every piece is computed by one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// The calling thread only. For callers that run many decompositions side by side.
    Serial,
    /// The rayon pool that the caller is in (the global one unless inside `ThreadPool::install`).
    #[default]
    Pool,
}

impl Threads {
    /// Calls `work` on every item, side by side where the policy allows it.
    pub(crate) fn for_each<I: Send>(self, items: Vec<I>, work: impl Fn(I) + Sync + Send) {
        match self {
            Self::Serial => items.into_iter().for_each(work),
            Self::Pool => items.into_par_iter().with_max_len(1).for_each(work),
        }
    }

    /// The results of `work` on every item, in the items' order.
    pub(crate) fn map<I: Send, O: Send>(
        self,
        items: Vec<I>,
        work: impl Fn(I) -> O + Sync + Send,
    ) -> Vec<O> {
        match self {
            Self::Serial => items.into_iter().map(work).collect(),
            Self::Pool => items.into_par_iter().with_max_len(1).map(work).collect(),
        }
    }
}
