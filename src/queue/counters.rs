//! What a pool counts, always on: one relaxed addition an event.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::task::{Outcome, TaskError};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicUsize);

impl Counter {
    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed) as u64
    }
}

/// Counts of a pool since it was built.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) ok: Counter,
    pub(crate) failed: Counter,
    pub(crate) panicked: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) worker_lost: Counter,
    pub(crate) pool_closed: Counter,
    pub(crate) other: Counter,
    pub(crate) retries: Counter,
    pub(crate) requeued: Counter,
    pub(crate) deaths: Counter,
    pub(crate) recycles: Counter,
    pub(crate) killed_for_deadline: Counter,
    pub(crate) killed_for_damage: Counter,
    pub(crate) respawns: Counter,
    pub(crate) corrupt: Counter,
    /// CPU time of workers that are gone, in nanoseconds.
    pub(crate) cpu_ns: Counter,
}

impl Counters {
    /// Counts `outcomes`. Adds the values, which are most of them, at once.
    pub(crate) fn count<'o>(&self, outcomes: impl Iterator<Item = &'o Outcome>) {
        let mut values = 0;
        for outcome in outcomes {
            match &outcome.result {
                Ok(_) => values += 1,
                Err(error) => self.counter_of(error).add(1),
            }
        }
        if values > 0 {
            self.ok.add(values);
        }
    }

    fn counter_of(&self, error: &TaskError) -> &Counter {
        [
            &self.failed,
            &self.panicked,
            &self.cancelled,
            &self.timed_out,
            &self.worker_lost,
            &self.pool_closed,
            &self.other,
        ][kind_of(error)]
    }
}

/// Kinds of outcomes without a value.
pub(super) const KINDS: usize = 7;

/// Returns the kind of an error, in the order of the counters.
pub(super) fn kind_of(error: &TaskError) -> usize {
    match error {
        TaskError::Failed(_) => 0,
        TaskError::Panicked(_) => 1,
        TaskError::Cancelled => 2,
        TaskError::TimedOut { .. } => 3,
        TaskError::WorkerLost(_) => 4,
        TaskError::PoolClosed { .. } => 5,
        _ => 6,
    }
}
