//! Publishing the pool's numbers on its stats page: ten times a second while something happens.

use std::time::Duration;

use crate::stats::Page;
use crate::sys::clock::monotonic_ns;

use super::shared::Shared;

/// The shortest time between two writings, in nanoseconds.
const INTERVAL_NS: u64 = 100_000_000;

/// The page, and what it shows.
#[derive(Debug)]
pub(super) struct Publisher {
    page: Page,
    written: u64,
    /// Submissions and deliveries when it was written.
    moved: usize,
    workers: usize,
}

impl Publisher {
    pub(super) fn new(page: Page) -> Self {
        Self { page, written: 0, moved: usize::MAX, workers: usize::MAX }
    }

    /// Writes the page if it is out of date and not quite new. Returns when to write it next.
    pub(super) fn publish(&mut self, shared: &Shared, now: u64) -> Option<u64> {
        let moved =
            shared.queues.iter().fold(0_usize, |sum, queue| sum.wrapping_add(queue.moved()));
        let workers = shared.workers().len();
        let is_stale = (moved, workers) != (self.moved, self.workers);
        if !is_stale && shared.pending() == 0 {
            return None;
        }
        if self.written + INTERVAL_NS <= now {
            self.page.write(&shared.numbers());
            (self.written, self.moved, self.workers) = (now, moved, workers);
            if shared.pending() == 0 {
                return None;
            }
        }
        Some(self.written + INTERVAL_NS)
    }
}

/// Returns the sooner of a timeout and a moment.
pub(super) fn sooner(timeout: Option<Duration>, at: Option<u64>) -> Option<Duration> {
    let left = at.map(|at| Duration::from_nanos(at.saturating_sub(monotonic_ns())));
    timeout.into_iter().chain(left).min()
}
