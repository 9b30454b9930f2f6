//! The watch: when to audit. No timer runs while nothing is pending.
#![forbid(unsafe_code)]

use crate::sys::clock::monotonic_ns;

use super::{Stage, Supervisor};
use crate::error::Error;

const FIRST: u64 = 20_000_000;
const LAST: u64 = 1_000_000_000;

/// When the next audit is, and what had moved at the last.
#[derive(Debug, Default)]
pub(super) struct Watch {
    next: Option<u64>,
    interval: u64,
    moved: usize,
}

impl Watch {
    /// When the watch wants to look again.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }
}

impl Supervisor {
    /// Audits if something is pending and nothing has moved for a while.
    pub(super) fn watch(&mut self, now: u64) {
        if self.watch.next.is_some_and(|at| at > now) {
            return;
        }
        let shared = std::sync::Arc::clone(&self.shared);
        let moved =
            shared.queues.iter().fold(0_usize, |sum, queue| sum.wrapping_add(queue.moved()));
        let idle = std::mem::replace(&mut self.watch.moved, moved) == moved;
        let began = self.watch.next.is_none();
        if shared.pending() == 0 && idle {
            shared.common.stop_watching();
            if shared.pending() == 0 {
                self.watch.next = None;
                return;
            }
        }
        shared.common.keep_watching();
        if idle && !began {
            self.audit();
            self.watch.interval = (self.watch.interval * 2).clamp(FIRST, LAST);
        } else {
            self.watch.interval = FIRST;
        }
        if shared.stage() > Stage::Open {
            // Somebody waits for the end, and perhaps nobody for the tasks' outcomes.
            self.watch.interval = FIRST;
        }
        self.watch.next = Some(monotonic_ns() + self.watch.interval);
    }

    fn audit(&mut self) {
        for (index, queue) in self.shared.queues.clone().iter().enumerate() {
            let slots = &self.crew.slots[index];
            let is_live = |slot: usize| slots.get(slot).is_some_and(|s| s.worker.is_some());
            if let Some(what) = queue.audit(is_live).damage {
                self.fail(Error::Corrupt(format!("queue {index}: {what}")));
            }
        }
    }
}
