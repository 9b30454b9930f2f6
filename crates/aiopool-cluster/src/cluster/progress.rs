//! How far a map is, told to its caller while the results come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aiopool::{Progress, remote};

/// Counts a map's tasks that are over, and calls what is to hear of it.
#[derive(Default)]
pub(super) struct Hook {
    over: Arc<AtomicU64>,
    called: Option<Called>,
}

struct Called {
    hook: Box<dyn FnMut(Progress) + Send>,
    /// Tasks that were over when it was called last.
    over: u64,
}

impl Hook {
    /// Has `hook` called from now on.
    pub(super) fn set(&mut self, hook: impl FnMut(Progress) + Send + 'static) {
        self.called = Some(Called { hook: Box::new(hook), over: 0 });
    }

    /// Returns the counter that each task of the map adds itself to.
    pub(super) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.over)
    }

    /// Calls the hook if tasks have ended since it was called last.
    pub(super) fn call(&mut self, total: impl FnOnce() -> Option<u64>) {
        let Some(called) = &mut self.called else { return };
        let over = self.over.load(Ordering::Relaxed);
        if over != called.over {
            called.over = over;
            (called.hook)(remote::progress(over, total()));
        }
    }
}
