//! The short way of the calls that receive: outcomes that have come already, for whatever thread is
//! next.

use super::inbox::Inbox;
use super::outcome::{aiopool_outcome, lend};

impl Inbox {
    /// Lends an outcome that is here and goes to no function, if that needs nothing else.
    #[inline]
    pub(super) fn lend_first(&self) -> Option<*mut aiopool_outcome> {
        let mut state = self.lock();
        if !state.called.is_empty() {
            return None;
        }
        let lent = lend(state.ready.pop_front()?);
        self.note_received(&mut state);
        Some(lent)
    }

    /// Lends up to `most` outcomes that are here, if that needs nothing else: `to` takes each with
    /// its place. Returns how many.
    pub(super) fn lend_many(
        &self,
        most: usize,
        mut to: impl FnMut(usize, *mut aiopool_outcome),
    ) -> usize {
        let mut state = self.lock();
        if !state.called.is_empty() {
            return 0;
        }
        let count = most.min(state.ready.len());
        state.ready.drain(..count).enumerate().for_each(|(at, arrived)| to(at, lend(arrived)));
        self.note_received(&mut state);
        count
    }
}
