//! How many receivers sleep until their outcome wakes them: for them alone a listener arms again.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The word is the host's own.
#[derive(Debug)]
pub(crate) struct Parked(AtomicU64);

impl Parked {
    /// None.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A receiver has a waker now that it did not have before. The caller arms the doorbell after
    /// this, and then looks.
    pub(crate) fn park(&self) {
        // Relaxed: the arming that follows carries it, by way of the worker that rings for it.
        self.0.fetch_add(1, Relaxed);
    }

    /// Uncounts `receivers` whose wakers were called or are no longer wanted.
    pub(crate) fn unpark(&self, receivers: usize) {
        if receivers > 0 {
            // Relaxed: a listener that still sees them arms once too often.
            self.0.fetch_sub(receivers as u64, Relaxed);
        }
    }

    /// Returns whether a receiver needs to be woken for an outcome.
    pub(crate) fn any(&self) -> bool {
        // Relaxed: as in `park`. A receiver that parks after the arming that was rung for arms
        // again.
        self.0.load(Relaxed) > 0
    }
}
