//! Who drains: one thread at a time, and whoever cannot has the one who does look once more.
//!
//! The word is the host's own; the lock is the caller's. Used as: [`ask`](Turn::ask), try to lock;
//! with the lock [`take`](Turn::take), look, unlock; then [`is_asked`](Turn::is_asked).

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

/// Whether somebody wants to drain who could not.
#[derive(Debug)]
pub(crate) struct Turn(AtomicU64);

impl Turn {
    /// Nobody does.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// This thread wants to drain; it tries to get the lock after this.
    pub(crate) fn ask(&self) {
        self.0.store(1, Relaxed);
        // SeqCst fence, B9: pairs with B10. Whoever does not get the lock has said so before its
        // holder lets go and looks.
        fence(SeqCst);
    }

    /// The holder of the lock begins to look: it does what was asked for so far.
    pub(crate) fn take(&self) {
        self.0.store(0, Relaxed);
        // SeqCst fence, B12: pairs with B1 of who asked. A wish that this store wipes out came
        // after that thread armed; so the look that follows sees what nobody rang for. Without
        // the fence the store may still be on its way when the look is over.
        fence(SeqCst);
    }

    /// The lock is free again: whether to look once more.
    pub(crate) fn is_asked(&self) -> bool {
        // SeqCst fence, B10: pairs with B9.
        fence(SeqCst);
        self.0.load(Relaxed) != 0
    }
}
