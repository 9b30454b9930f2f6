//! At most one thread drains at a time. A thread that finds the drain busy asks the current drainer
//! for one more pass.
//!
//! The word is the host's own; the lock is the caller's. How it is used: [`ask`](DrainBaton::ask),
//! then try to lock; with the lock [`take`](DrainBaton::take), drain and unlock; after that
//! [`is_asked`](DrainBaton::is_asked).

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

/// Whether a thread that could not drain wants to.
#[derive(Debug)]
pub(crate) struct DrainBaton(AtomicU64);

impl DrainBaton {
    /// No thread has asked.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Requests a drain; the caller tries to get the lock after this.
    pub(crate) fn ask(&self) {
        self.0.store(1, Relaxed);
        // SeqCst fence, B9: pairs with B10. A thread that does not get the lock has asked before
        // its holder releases it and checks.
        fence(SeqCst);
    }

    /// Clears the request: the holder of the lock begins a drain, which serves what was requested
    /// so far.
    pub(crate) fn take(&self) {
        self.0.store(0, Relaxed);
        // SeqCst fence, B12: pairs with B1 of the thread that asked. A request that this store
        // erases came after that thread armed; so the drain that follows sees the outcomes for
        // which no worker rang. Without the fence the store may still be on its way when the drain
        // is over.
        fence(SeqCst);
    }

    /// Returns whether to drain once more, after the lock was released.
    pub(crate) fn is_asked(&self) -> bool {
        // SeqCst fence, B10: pairs with B9.
        fence(SeqCst);
        self.0.load(Relaxed) != 0
    }
}
