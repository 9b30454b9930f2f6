//! The watch: when to audit. No timer runs while every record is free: nothing is pending, and
//! nothing that was cancelled is still a worker's.

use crate::queue::HostQueue;
use crate::sys::clock::monotonic_ns;
use crate::table::Owner;

use super::{Stage, Supervisor};

const FIRST: u64 = 20_000_000;
/// The longest pause between two audits, and the pause while tasks come and go: a task that is
/// stuck must not depend on the others to stand still.
const LAST: u64 = 1_000_000_000;

/// When the next look is, and what had moved at the last.
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
    /// When the watch wants to look again.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }
}

impl Supervisor {
    /// Audits queues that have records out and in which nothing has moved for a while.
    pub(super) fn watch(&mut self, now: u64) {
        if self.watch.next.is_some_and(|at| at > now) {
            return;
        }
        let shared = std::sync::Arc::clone(&self.shared);
        let began = self.watch.next.is_none();
        self.watch.queues.resize(shared.queues.len(), Seen::default());
        let (mut any_moved, mut any_waits) = (false, false);
        let mut due = Vec::new();
        let mut next = None::<u64>;
        // A thread waits for the end, and perhaps none for the tasks' outcomes.
        let ending = shared.stage() > Stage::Open;
        let waits = |queue: &HostQueue| queue.has_records_out() || queue.is_awaited();
        for (index, (queue, seen)) in shared.queues.iter().zip(&mut self.watch.queues).enumerate() {
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
                self.watch.next = None;
                return;
            }
        }
        shared.common.keep_watching();
        due.into_iter().for_each(|queue| self.audit(queue));
        let now = monotonic_ns();
        self.watch.next = Some(next.unwrap_or(now).clamp(now + FIRST, now + LAST));
    }

    pub(super) fn audit(&mut self, queue: usize) {
        let slots = &self.crew.slots[queue];
        let incarnation = |slot: usize| {
            slots.get(slot).and_then(|slot| slot.worker.as_ref()).map(|w| Owner::of(w.id))
        };
        if let Some(what) = self.shared.queues[queue].audit(incarnation) {
            self.condemn(queue, what);
        }
    }
}
