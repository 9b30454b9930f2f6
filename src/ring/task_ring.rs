//! The task ring: one producer (the host), many consumers (the queue's workers), no slot that a
//! consumer ever writes.
//!
//! The ring carries order only. Taking an entry is a compare-and-swap on the *record* it names;
//! moving `head` afterwards is housekeeping that any process may do for another ("help"), so a
//! consumer that dies or stops between the two holds up none.

use crate::sync::atomic::Ordering::Release;
use crate::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

use super::word::{index_at, slot_of, word};

/// A view of one task ring in memory that the caller holds.
#[derive(Clone, Copy, Debug)]
pub struct TaskRing<'m> {
    head: &'m AtomicU64,
    /// A power of two of them, at least as many as the table has records.
    slots: &'m [AtomicU64],
}

/// What stands at the head of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Nothing.
    Empty,
    /// An entry at `position` that names `record`: a hint, to be checked against the record.
    Entry {
        /// Its running number.
        position: u64,
        /// The record's index, below [`MAX_RECORDS`](super::MAX_RECORDS).
        record: u32,
    },
}

impl<'m> TaskRing<'m> {
    /// Returns the ring whose words are `head` and `slots`.
    pub(crate) fn new(head: &'m AtomicU64, slots: &'m [AtomicU64]) -> Self {
        debug_assert!(slots.len().is_power_of_two());
        Self { head, slots }
    }

    /// Puts `record` at `position`, which is the host's tail; the host alone.
    ///
    /// The caller knows that `position - head < capacity`: a record has at most one entry in
    /// `[head, tail)`, and is free again only when head has passed it.
    pub fn push(&self, position: u64, record: u32) {
        // Release: pairs with the Acquire of the slot in `peek` (the record's publish).
        self.slot(position).store(word(position, record), Release);
    }

    /// Has the ring begin at `position`; only the host, before the ring is shared.
    pub(crate) fn start_at(&self, position: u64) {
        // Relaxed: the region is given to workers after this.
        self.head.store(position, Relaxed);
    }

    /// Returns whether the entry at `position` is still `record`'s, as the host pushed it.
    pub(crate) fn holds(&self, position: u64, record: u32) -> bool {
        // Relaxed: only the host writes slots, and it is the host that asks.
        self.slot(position).load(Relaxed) == word(position, record)
    }

    /// Returns the first position that is not known to be taken.
    pub fn head(&self) -> u64 {
        // Acquire: pairs with the Release of `help`, so that a record whose entry was passed is
        // seen as its claimer left it.
        self.head.load(Acquire)
    }

    /// Looks at the head of the ring.
    pub(crate) fn peek(&self) -> Head {
        // `head` can advance at most over what was queued when this loop began; anything pushed
        // later rings the doorbell. More iterations mean that a faulty process is corrupting
        // `head`.
        for _ in 0..self.slots.len() + 1 {
            let position = self.head();
            // Acquire: pairs with the Release of `push`.
            if let Some(record) = index_at(position, self.slot(position).load(Acquire)) {
                return Head::Entry { position, record };
            }
            // The slot holds the lap before, or one ahead because head is stale. Relaxed: only
            // tells which; a stale "empty" is caught by the fence of the doorbell.
            if self.head.load(Relaxed) == position {
                return Head::Empty;
            }
        }
        Head::Empty
    }

    /// Returns the record that the entry at `position` names, if it is there: no more than a hint.
    pub(crate) fn hint(&self, position: u64) -> Option<u32> {
        // Relaxed: nothing is read on the strength of it.
        index_at(position, self.slot(position).load(Relaxed))
    }

    /// Moves head past `position` if it still stands there.
    pub(crate) fn help(&self, position: u64) {
        // AcqRel: Release pairs with the Acquire of `head`; the value itself decides.
        let _ = self.head.compare_exchange(position, position.wrapping_add(1), AcqRel, Relaxed);
    }

    fn slot(&self, position: u64) -> &'m AtomicU64 {
        slot_of(self.slots, position)
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;
    use crate::sync::racing::restless;

    #[test]
    fn a_look_at_a_head_that_never_stands_still_ends() {
        let slots: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let head = AtomicU64::new(0);
        let ring = TaskRing::new(&head, &slots);
        assert_eq!(restless(1 << 60, || ring.peek()), Head::Empty);
    }
}
