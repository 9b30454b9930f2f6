//! Where the outcome of a single task arrives.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use crate::queue::Receiver;
use crate::sync::lock;
use crate::task::Outcome;

/// A place for one outcome, and for the waker of its receiver.
#[derive(Debug, Default)]
pub(crate) struct OneShot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

thread_local! {
    /// Places that were used, so that a thread that submits and waits allocates none.
    static USED: RefCell<Vec<Arc<OneShot>>> = const { RefCell::new(Vec::new()) };
}

/// The most places that a thread keeps.
const KEPT: usize = 256;

impl OneShot {
    /// Returns an empty place.
    pub(crate) fn lease() -> Arc<Self> {
        // A thread that is ending may have lost its list.
        let used = USED.try_with(|used| used.borrow_mut().pop());
        used.ok().flatten().unwrap_or_default()
    }

    /// Gives the place back; it is reused if no other reference exists.
    pub(crate) fn give_back(mut self: Arc<Self>) {
        if let Some(one_shot) = Arc::get_mut(&mut self) {
            *one_shot = Self::default();
            let _ = USED.try_with(|used| {
                let mut used = used.borrow_mut();
                if used.len() < KEPT {
                    used.push(self);
                }
            });
        }
    }

    /// Returns the outcome, if it has come, and whether there still was a waker.
    pub(crate) fn take(&self) -> Option<(Outcome, bool)> {
        let mut state = self.lock();
        let outcome = state.outcome.take()?;
        Some((outcome, state.waker.take().is_some()))
    }

    /// Has `waker` woken when the outcome comes; the caller checks again after this. Returns true
    /// if there was no waker before.
    pub(crate) fn set_waker(&self, waker: &Waker) -> bool {
        set(&mut self.lock().waker, waker)
    }

    /// Removes the waker. Returns true if there was one.
    pub(crate) fn clear_waker(&self) -> bool {
        self.lock().waker.take().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl Receiver for OneShot {
    fn deliver(&self, _: u64, outcome: Outcome) -> bool {
        let mut state = self.lock();
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        let woke = waker.is_some();
        waker.into_iter().for_each(Waker::wake);
        woke
    }
}

/// Puts `waker` into `place`. Returns true if there was none before.
pub(super) fn set(place: &mut Option<Waker>, waker: &Waker) -> bool {
    match place {
        Some(known) => {
            known.clone_from(waker);
            false
        }
        None => {
            *place = Some(waker.clone());
            true
        }
    }
}
