//! The changes of a record's state word, one method each. `README.md` has the table of them.
//!
//! All of them are read-modify-write operations or stores by the state's single writer, so the
//! word has one modification order and no change is ever half done.

use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::record::Record;
use super::state::{Owner, State, StateWord};

/// What came of a host's attempt to cancel a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum CancelResult {
    /// No worker had it, and none will: CANCELLED.
    BeforeClaim,
    /// That worker has it and is to drop it: CANCELLING.
    WhileOwned(Owner),
    /// Too late (DONE), or it was not this use of the record any more.
    TooLate(StateWord),
}

impl Record {
    /// Returns the state word now.
    ///
    /// Acquire: pairs with the Release of `publish` (input) and of `try_commit` (output).
    pub fn state(&self) -> StateWord {
        StateWord::from_bits(self.state.load(Acquire))
    }

    /// `{ class, position }` of its newest ring entry.
    pub(crate) fn position(&self) -> u64 {
        // Relaxed: written before the Release of `publish`, read after the Acquire of `state`.
        self.position.load(Relaxed)
    }

    /// FREE or HELD or a dead worker's word → QUEUED with a new generation, by the host alone.
    ///
    /// The ring entry for `position` is pushed *after* this.
    pub fn publish(&self, generation: u32, position: u64) {
        self.position.store(position, Relaxed);
        let word = StateWord::new(generation, Owner::NOBODY, State::Queued);
        // Release: pairs with the Acquire of `state` in a claim (call, input, position).
        self.state.store(word.bits(), Release);
    }

    /// FREE → CLAIMED with a new generation, by the host for `owner`: a task for that worker alone.
    pub(crate) fn assign(&self, generation: u32, position: u64, owner: Owner) {
        self.position.store(position, Relaxed);
        let claimed = StateWord::new(generation, owner, State::Claimed);
        // Release: as in `publish`; pairs with the Acquire of `state` in the owner's look.
        self.state.store(claimed.bits(), Release);
    }

    /// QUEUED → CLAIMED: *the claim*. True if `seen` still stood and the task is now `owner`'s.
    #[must_use]
    pub(crate) fn try_claim(&self, seen: StateWord, owner: Owner) -> bool {
        self.swap(seen, seen.with(owner, State::Claimed)).is_ok()
    }

    /// QUEUED → QUEUED with a new generation, for the audit: only if `seen` still stands, so that
    /// a claim that happens meanwhile wins. `position` is read by claimers of the new word only.
    #[must_use]
    pub(crate) fn try_republish(&self, seen: StateWord, generation: u32, position: u64) -> bool {
        self.position.store(position, Relaxed);
        self.swap(seen, StateWord::new(generation, Owner::NOBODY, State::Queued)).is_ok()
    }

    /// CLAIMED → RUNNING, before any user code; else the word that stands there instead.
    pub fn try_start(&self, claimed: StateWord) -> Result<StateWord, StateWord> {
        let running = claimed.with(claimed.owner(), State::Running);
        self.swap(claimed, running).map(|()| running)
    }

    /// RUNNING → DONE, after the output is written: *the commit*; else the word there instead.
    pub fn try_commit(&self, running: StateWord) -> Result<StateWord, StateWord> {
        let done = running.with(running.owner(), State::Done);
        self.swap(running, done).map(|()| done)
    }

    /// CANCELLING → DONE, once the future is dropped and the input no longer read.
    pub(crate) fn confirm_cancel(&self, cancelling: StateWord) -> Result<StateWord, StateWord> {
        debug_assert_eq!(cancelling.state(), Some(State::Cancelling));
        let done = cancelling.with(cancelling.owner(), State::Done);
        self.swap(cancelling, done).map(|()| done)
    }

    /// QUEUED → CANCELLED, or CLAIMED or RUNNING → CANCELLING, of this `generation` only.
    pub(crate) fn cancel(&self, generation: u32) -> CancelResult {
        let mut seen = self.state();
        // Claimed, started, done: each step is one way, so a correct worker allows three turns.
        for _ in 0..4 {
            if seen.generation() != generation {
                return CancelResult::TooLate(seen);
            }
            let (next, result) = match seen.state() {
                Some(State::Queued) => {
                    (seen.with(Owner::NOBODY, State::Cancelled), CancelResult::BeforeClaim)
                }
                Some(State::Claimed | State::Running) => (
                    seen.with(seen.owner(), State::Cancelling),
                    CancelResult::WhileOwned(seen.owner()),
                ),
                _ => return CancelResult::TooLate(seen),
            };
            match self.swap(seen, next) {
                Ok(()) => return result,
                Err(now) => seen = now,
            }
        }
        // A faulty process scribbles on the word. The audit finds that.
        CancelResult::TooLate(seen)
    }

    /// QUEUED → CANCELLED, of this `generation` only: a task that a worker has goes on.
    pub(crate) fn cancel_queued(&self, generation: u32) -> CancelResult {
        let seen = self.state();
        let queued = seen.generation() == generation && seen.state() == Some(State::Queued);
        if queued && self.swap(seen, seen.with(Owner::NOBODY, State::Cancelled)).is_ok() {
            return CancelResult::BeforeClaim;
        }
        CancelResult::TooLate(seen)
    }

    /// DONE, or a dead worker's word → HELD: the task waits for a retry, by the host alone.
    pub(crate) fn hold(&self, generation: u32) {
        let word = StateWord::new(generation, Owner::NOBODY, State::Held);
        // Relaxed: only the host acts on HELD.
        self.state.store(word.bits(), Relaxed);
    }

    /// DONE or CANCELLED, or a dead worker's word → FREE, by the host alone.
    pub fn release(&self, generation: u32) {
        let word = StateWord::new(generation, Owner::NOBODY, State::Free);
        // Relaxed: only the host acts on FREE; workers see the next QUEUED or nothing.
        self.state.store(word.bits(), Relaxed);
    }

    fn swap(&self, seen: StateWord, next: StateWord) -> Result<(), StateWord> {
        // AcqRel: Release carries what was written before the change (the output before DONE),
        // Acquire what the previous holder wrote (the input before QUEUED).
        self.state
            .compare_exchange(seen.bits(), next.bits(), AcqRel, Acquire)
            .map(drop)
            .map_err(StateWord::from_bits)
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;
    use crate::table::WorkerId;

    fn owner(slot: u16) -> Owner {
        Owner::of(WorkerId { queue: 0, slot, incarnation: 1 })
    }

    #[test]
    fn one_claim_wins() {
        let record = Record::default();
        record.publish(1, 0);
        let seen = record.state();
        assert!(record.try_claim(seen, owner(1)));
        assert!(!record.try_claim(seen, owner(2)));
        assert_eq!(record.state().owner(), owner(1));
    }

    #[test]
    fn a_stale_claim_of_an_earlier_use_fails() {
        let record = Record::default();
        record.publish(1, 0);
        let seen = record.state();
        record.release(1);
        record.publish(2, 1);
        assert!(!record.try_claim(seen, owner(1)));
    }

    #[test]
    fn a_cancel_of_a_word_that_never_stands_still_ends() {
        let record = Record::default();
        record.publish(1, 0);
        // QUEUED and RUNNING by turns.
        let result = crate::sync::racing::restless(0b10, || record.cancel(1));
        assert!(matches!(result, CancelResult::TooLate(_)), "{result:?}");
    }

    #[test]
    fn cancel_hits_each_state_as_the_table_says() {
        let record = Record::default();
        record.publish(1, 0);
        assert_eq!(record.cancel(2), CancelResult::TooLate(record.state()));
        assert_eq!(record.cancel(1), CancelResult::BeforeClaim);
        assert_eq!(record.state().state(), Some(State::Cancelled));

        record.publish(2, 1);
        let claimed = record.state().with(owner(3), State::Claimed);
        assert!(record.try_claim(record.state(), owner(3)));
        let running = record.try_start(claimed).unwrap();
        assert_eq!(record.cancel(2), CancelResult::WhileOwned(owner(3)));
        let cancelling = record.try_commit(running).unwrap_err();
        assert_eq!(cancelling.state(), Some(State::Cancelling));
        let done = record.confirm_cancel(cancelling).unwrap();
        assert_eq!(record.cancel(2), CancelResult::TooLate(done));
    }
}
