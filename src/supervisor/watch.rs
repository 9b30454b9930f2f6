//! The watch: when to audit. No timer runs while every record is free, that is, while no task is
//! pending and no worker has a cancelled one.

use crate::queue::HostQueue;

use super::shared::{Shared, Stage};

/// The shortest pause between two audits of a queue in which nothing moves, in nanoseconds.
const FIRST: u64 = 20_000_000;
/// The longest pause between two audits, in nanoseconds, and the pause while tasks come and go: a
/// stuck task must be found even if the others do not stand still.
const LAST: u64 = 1_000_000_000;

/// When the queues are checked next, and what the last check found.
#[derive(Debug, Default)]
pub(super) struct Watch {
    next: Option<u64>,
    queues: Vec<Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    moved: usize,
    interval: u64,
    due: u64,
}

impl Watch {
    /// Returns when the queues are to be checked next; `None` while nothing is to be watched.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }

    /// Returns the queues to audit, or `None` if it is too early for another round.
    ///
    /// These are the queues that have records out, or submitters that wait for room, and in which
    /// nothing has moved for a while. The caller calls [`end_round`](Self::end_round) after the
    /// audits.
    pub(super) fn begin_round(&mut self, shared: &Shared, now: u64) -> Option<Vec<usize>> {
        if self.next.is_some_and(|at| at > now) {
            return None;
        }
        let began = self.next.is_none();
        self.queues.resize(shared.queues.len(), Seen::default());
        let (mut any_moved, mut any_waits) = (false, false);
        let mut due = Vec::new();
        let mut next = None::<u64>;
        // Threads may wait for the pool's end, and none for the outcomes of its tasks.
        let ending = shared.stage() > Stage::Open;
        let waits = |queue: &HostQueue| queue.has_records_out() || queue.is_awaited();
        for (index, (queue, seen)) in shared.queues.iter().zip(&mut self.queues).enumerate() {
            let moved = queue.moved();
            let stands = std::mem::replace(&mut seen.moved, moved) == moved;
            any_moved |= !stands;
            if began {
                seen.due = now + LAST;
            }
            if !stands {
                seen.interval = 0;
            }
            // Records of cancelled tasks come back only when the lanes are drained; a submitter may
            // wait for them.
            let waits = waits(queue);
            any_waits |= waits;
            if waits && !began && (seen.due <= now || stands && seen.interval == 0) {
                due.push(index);
                let backs_off = stands && !ending;
                seen.interval = if backs_off { (seen.interval * 2).clamp(FIRST, LAST) } else { 0 };
                seen.due = now + if backs_off { seen.interval } else { LAST };
            }
            if waits {
                let at = if seen.interval == 0 { now + FIRST } else { seen.due };
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        if !any_waits && !any_moved {
            shared.common.stop_watching();
            if !shared.queues.iter().any(|queue| waits(queue)) {
                self.next = None;
                return None;
            }
        }
        shared.common.keep_watching();
        self.next = Some(next.unwrap_or(now));
        Some(due)
    }

    /// Sets the time of the next round, counted from the end of this round's audits at `now`.
    pub(super) fn end_round(&mut self, now: u64) {
        self.next = self.next.map(|next| next.clamp(now + FIRST, now + LAST));
    }
}
