//! The claim: ring, table and class together.

use crate::sync::crash::{self, Point};
use crate::table::{Call, Owner, Record, State, StateWord};

use super::task_ring::{Head, TaskRing};

/// The most priority classes a queue can have: the class takes two bits of a [`place`].
pub const MAX_CLASSES: usize = 1 << CLASS_BITS;
const CLASS_BITS: u32 = 2;
const POSITION_BITS: u32 = u64::BITS - CLASS_BITS;

/// Returns a place in one of a queue's task rings: `{ class:2, position:62 }`.
pub fn place(class: usize, position: u64) -> u64 {
    debug_assert!(class < MAX_CLASSES);
    (class as u64) << POSITION_BITS | (position & (u64::MAX >> CLASS_BITS))
}

/// Returns the class and the position of a [`place`].
pub fn split_place(place: u64) -> (usize, u64) {
    ((place >> POSITION_BITS) as usize, place & (u64::MAX >> CLASS_BITS))
}

/// What a worker's look at a task ring came to.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub enum Claim {
    /// The record is the worker's; its word now is `claimed`.
    Task {
        /// The record's index.
        record: u32,
        /// `{ generation, owner, CLAIMED }`.
        claimed: StateWord,
    },
    /// The ring has nothing to claim.
    Empty,
    /// The first task is there but `admits` refused it; it stays where it is.
    Refused,
}

/// Claims the first task of `ring` for `owner`, helping head past whatever is stale there.
///
/// `admits` looks at the call before the claim. C1…C4 are in `table/README.md`.
pub fn claim(
    ring: TaskRing<'_>,
    class: usize,
    records: &[Record],
    owner: Owner,
    admits: impl Fn(Call) -> bool,
) -> Claim {
    loop {
        let Head::Entry { position, record: index } = ring.peek() else { return Claim::Empty };
        if let Some(record) = records.get(index as usize) {
            let seen = record.state();
            if is_at(record, seen, class, position) {
                if !admits(record.call()) {
                    return Claim::Refused;
                }
                // C1: dies here → nothing was changed.
                crash::here(Point::C1);
                if record.try_claim(seen, owner) {
                    // C2: dies here → CLAIMED, head not moved; recovery helps, then queues again.
                    crash::here(Point::C2);
                    ring.help(position);
                    // C3: dies here → CLAIMED, head moved; recovery queues again.
                    crash::here(Point::C3);
                    // Not under the model checker: a hint would only be one more step to explore.
                    if !cfg!(aiopool_loom)
                        && let Some(next) = ring.hint(position.wrapping_add(1))
                        && let Some(next) = records.get(next as usize)
                    {
                        // The worker that claims it next finds its line near.
                        next.prefetch();
                    }
                    return Claim::Task {
                        record: index,
                        claimed: seen.with(owner, State::Claimed),
                    };
                }
            }
        }
        // Claimed, cancelled, or a leftover of an earlier use: the entry has done its work.
        ring.help(position);
    }
}

/// Returns whether something claimable stands at the head of `ring`; helps nothing.
pub fn has_task(ring: TaskRing<'_>) -> bool {
    ring.peek() != Head::Empty
}

/// Helps head past every entry at the front that no worker can claim any more; the host's way to
/// get room when all workers are busy, dead or stopped.
pub fn help_past_stale(ring: TaskRing<'_>, class: usize, records: &[Record]) {
    // At most one lap: whatever a scribbling worker writes, this ends.
    for _ in 0..records.len() {
        let Head::Entry { position, record } = ring.peek() else { return };
        let queued = records
            .get(record as usize)
            .is_some_and(|record| is_at(record, record.state(), class, position));
        if queued {
            return;
        }
        ring.help(position);
    }
}

fn is_at(record: &Record, seen: StateWord, class: usize, position: u64) -> bool {
    seen.state() == Some(State::Queued) && record.position() == place(class, position)
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicU64;
    use crate::table::WorkerId;

    fn words(n: usize) -> Vec<AtomicU64> {
        (0..n).map(|_| AtomicU64::new(0)).collect()
    }

    fn me() -> Owner {
        Owner::of(WorkerId { queue: 0, slot: 0, incarnation: 1 })
    }

    #[test]
    fn tasks_come_in_the_order_they_were_pushed_over_many_laps() {
        let (head, slots) = (AtomicU64::new(0), words(4));
        let ring = TaskRing::new(&head, &slots);
        let records: Vec<Record> = (0..4).map(|_| Record::default()).collect();
        for position in 0..100_u64 {
            let index = (position % 4) as u32;
            records[index as usize].publish(position as u32 + 1, place(0, position));
            ring.push(position, index);
            let Claim::Task { record, claimed } = claim(ring, 0, &records, me(), |_| true) else {
                panic!("nothing to claim at {position}")
            };
            assert_eq!((record, claimed.generation()), (index, position as u32 + 1));
            assert!(matches!(claim(ring, 0, &records, me(), |_| true), Claim::Empty));
        }
    }

    #[test]
    fn a_cancelled_entry_is_passed_and_a_refused_one_stays() {
        let (head, slots) = (AtomicU64::new(0), words(4));
        let ring = TaskRing::new(&head, &slots);
        let records: Vec<Record> = (0..4).map(|_| Record::default()).collect();
        for position in 0..2 {
            records[position as usize].publish(1, place(0, position));
            ring.push(position, position as u32);
        }
        let _ = records[0].cancel(1);
        assert!(matches!(claim(ring, 0, &records, me(), |_| false), Claim::Refused));
        assert_eq!(ring.head(), 1);
        assert!(matches!(claim(ring, 0, &records, me(), |_| true), Claim::Task { record: 1, .. }));
    }

    #[test]
    fn an_entry_that_names_no_record_is_passed() {
        let (head, slots) = (AtomicU64::new(0), words(4));
        let ring = TaskRing::new(&head, &slots);
        let records: Vec<Record> = (0..4).map(|_| Record::default()).collect();
        ring.push(0, 1_000);
        assert!(matches!(claim(ring, 0, &records, me(), |_| true), Claim::Empty));
        assert_eq!(ring.head(), 1);
    }
}
