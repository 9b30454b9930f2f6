//! Publishing the pool's numbers on its stats page: ten times a second while something happens.

use crate::stats::Page;

use super::Supervisor;

const INTERVAL_NS: u64 = 100_000_000;

/// The page, and what it says.
#[derive(Debug)]
pub(super) struct Publisher {
    page: Page,
    written: u64,
    /// What had moved when it was written.
    moved: usize,
    workers: usize,
}

impl Publisher {
    pub(super) fn new(page: Page) -> Self {
        Self { page, written: 0, moved: usize::MAX, workers: usize::MAX }
    }
}

impl Supervisor {
    /// Writes the page if it is out of date and not quite new; when to do so again.
    pub(super) fn publish(&mut self, now: u64) -> Option<u64> {
        let shared = &self.shared;
        let publisher = self.publisher.as_mut()?;
        let moved =
            shared.queues.iter().fold(0_usize, |sum, queue| sum.wrapping_add(queue.moved()));
        let workers = shared.workers().len();
        let is_stale = (moved, workers) != (publisher.moved, publisher.workers);
        if !is_stale && shared.pending() == 0 {
            return None;
        }
        if publisher.written + INTERVAL_NS <= now {
            publisher.page.write(&shared.numbers());
            (publisher.written, publisher.moved, publisher.workers) = (now, moved, workers);
            if shared.pending() == 0 {
                return None;
            }
        }
        Some(publisher.written + INTERVAL_NS)
    }
}
