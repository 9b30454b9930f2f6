//! The workers' side of the doorbell: which of them to wake for a task, if any.
//!
//! Two sets of worker slots: *sleepers* wait on their eventfd and can take work, *searchers* are
//! awake with nothing in flight and look at the rings. `README.md` has the protocol and why no
//! wake-up is lost.

use crate::sync::atomic::{Ordering::SeqCst, fence};

use super::slot_set::SlotSet;

/// A view of a queue's sleepers and searchers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerBells<'m> {
    sleepers: SlotSet<'m>,
    searchers: SlotSet<'m>,
}

impl<'m> WorkerBells<'m> {
    /// Returns the bells over the two sets.
    pub(crate) fn new(sleepers: SlotSet<'m>, searchers: SlotSet<'m>) -> Self {
        Self { sleepers, searchers }
    }

    /// Returns the slot whose eventfd the host must write after a push, if any.
    ///
    /// `backlog` counts the entries in the rings. A searcher finds one task by itself, so only
    /// what is beyond the searchers needs a sleeper; the bit of the chosen one is cleared, so the
    /// next push wakes another.
    pub(crate) fn to_wake(self, backlog: impl FnOnce() -> u64, start: usize) -> Option<usize> {
        // SeqCst fence, B4: pairs with B5 and B6. Either this sees the bit, or the worker that
        // set or cleared it sees the entry.
        fence(SeqCst);
        let mut start = start;
        let mut found = self.sleepers.find(start)?;
        if backlog() <= self.searchers.len() {
            return None;
        }
        // As many turns as there can be sleepers: a bit that comes and goes under this is a
        // scribble.
        for _ in 0..self.sleepers.most() {
            if self.sleepers.remove(found) {
                return Some(found);
            }
            // It woke by itself and looks at the ring; take the next one.
            start = found + 1;
            found = self.sleepers.find(start)?;
        }
        None
    }

    /// A worker with nothing in flight begins to look.
    pub(crate) fn start_search(self, me: usize) {
        self.searchers.insert(me);
    }

    /// Returns how many workers search.
    pub(crate) fn searching(self) -> u64 {
        self.searchers.len()
    }

    /// A searcher has claimed a task: the slot it must ring because there may be more, if any.
    ///
    /// It rings and leaves the bit, which only its owner or the host clears: dying between a
    /// clear and a ring would lose the wake-up.
    pub(crate) fn found(self, me: usize, backlog: impl FnOnce() -> u64) -> Option<usize> {
        self.searchers.remove(me);
        self.pass_on(me, backlog)
    }

    /// Like [`found`](Self::found), for a worker that came out of sleep and has claimed a task.
    pub(crate) fn pass_on(self, me: usize, backlog: impl FnOnce() -> u64) -> Option<usize> {
        // SeqCst fence, B5: pairs with B4. If the host still saw this worker searching, and so rang
        // no worker, its entry is seen here.
        fence(SeqCst);
        let sleeper = self.sleepers.find(me + 1)?;
        (backlog() > self.searchers.len()).then_some(sleeper)
    }

    /// A worker is about to wait: it looks at the rings once more *after* this.
    pub(crate) fn sleep(self, me: usize) {
        self.sleepers.insert(me);
        self.searchers.remove(me);
        // SeqCst fence, B6: pairs with B4.
        fence(SeqCst);
    }

    /// A worker that cannot take work waits for its own futures only.
    pub(crate) fn stop_search(self, me: usize) {
        self.searchers.remove(me);
    }

    /// A worker is awake again, rung or not: it looks at the rings before it polls user code, and
    /// sees what the host has chosen it for, even if it woke by itself.
    pub(crate) fn wake(self, me: usize) {
        self.sleepers.remove(me);
    }

    /// Returns whether the worker in `slot` sleeps, for an observer.
    pub(crate) fn sleeps(self, slot: usize) -> bool {
        self.sleepers.has(slot)
    }

    /// Returns whether the worker in `slot` searches, for an observer.
    pub(crate) fn searches(self, slot: usize) -> bool {
        self.searchers.has(slot)
    }

    /// Clears the bits of slots without a worker: such a slot neither sleeps nor searches, whatever
    /// the words say.
    pub(crate) fn keep_only(self, is_worker: impl Fn(usize) -> bool) {
        self.sleepers.retain(&is_worker);
        self.searchers.retain(&is_worker);
    }

    /// Recovery: a dead worker neither sleeps nor searches.
    pub(crate) fn forget(self, dead: usize) {
        self.sleepers.remove(dead);
        self.searchers.remove(dead);
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicU64;
    use crate::sync::racing::restless;

    #[test]
    fn a_search_for_a_sleeper_that_never_stands_still_ends() {
        let (sleepers, searchers) = (AtomicU64::new(0b01), AtomicU64::new(0));
        let set = |word| SlotSet::new(std::slice::from_ref(word));
        let bells = WorkerBells::new(set(&sleepers), set(&searchers));
        assert_eq!(restless(0b11, || bells.to_wake(|| 9, 0)), None);
    }
}
