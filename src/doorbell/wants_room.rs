//! Whether a worker waits for room for its outputs: only then the host rings it for a block that it
//! hands back.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

/// A view of a worker slot's word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantsRoom<'m>(&'m AtomicU64);

impl<'m> WantsRoom<'m> {
    /// Returns the wish that is `word`.
    pub(crate) fn new(word: &'m AtomicU64) -> Self {
        Self(word)
    }

    /// The worker says whether outputs wait; it looks for room once more after `true`.
    pub(crate) fn say(self, yes: bool) {
        self.0.store(u64::from(yes), Relaxed);
        // SeqCst fence, B13: pairs with B14.
        fence(SeqCst);
    }

    /// Returns whether the host must ring, after it handed a block back.
    #[must_use]
    pub(crate) fn is_said(self) -> bool {
        // SeqCst fence, B14: pairs with B13. Either the worker's next look sees the block, or
        // this sees that it waits.
        fence(SeqCst);
        self.0.load(Relaxed) != 0
    }
}
