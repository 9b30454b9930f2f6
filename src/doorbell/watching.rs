//! Whether the supervisor keeps watch: a task that is submitted while it does not begins one.

use crate::sync::atomic::{
    AtomicU64, Ordering::AcqRel, Ordering::Relaxed, Ordering::SeqCst, fence,
};

/// The word is the host's own.
#[derive(Debug)]
pub(crate) struct Watching(AtomicU64);

impl Watching {
    /// It does not.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Something is pending since before a SeqCst fence of this thread: must the supervisor be
    /// called?
    #[must_use]
    pub(crate) fn begin(&self) -> bool {
        // Relaxed: ordered by the caller's fence against B11. A look first, since most submitters
        // find it set.
        self.0.load(Relaxed) == 0 && self.0.fetch_or(1, AcqRel) == 0
    }

    /// The supervisor is about to sleep; it looks for what is pending after this.
    pub(crate) fn stop(&self) {
        self.0.store(0, Relaxed);
        // SeqCst fence, B11: pairs with the caller's of `begin`. Either the submitter sees the
        // flag down, or the look that follows sees the task.
        fence(SeqCst);
    }

    /// The supervisor found something and goes on.
    pub(crate) fn keep(&self) {
        self.0.store(1, Relaxed);
    }
}
