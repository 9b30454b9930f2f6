//! The numbers of a pool, for its owner, its scheduler and the stats page.

use crate::scheduler::Load;
#[cfg(feature = "stats-page")]
use crate::stats::{HISTOGRAM, Numbers};
use crate::sys::clock::cpu_ns_of;

use super::Shared;

impl Shared {
    /// Tasks that no worker has taken, about.
    pub(crate) fn queued(&self) -> u64 {
        let queued = |queue: &std::sync::Arc<crate::queue::HostQueue>| {
            queue.depth(usize::MAX).min(queue.pending()) as u64
        };
        self.queues.iter().map(queued).sum()
    }

    /// Returns the processor time of all workers so far.
    pub(crate) fn cpu_ns(&self) -> u64 {
        let living: u64 = self.workers().iter().filter_map(|worker| cpu_ns_of(worker.pid)).sum();
        self.common.counters.cpu_ns.get().saturating_add(living)
    }

    /// Returns all numbers, as the page has them.
    #[cfg(feature = "stats-page")]
    pub(crate) fn numbers(&self) -> Numbers {
        let counters = &self.common.counters;
        let (pending, queued) = (self.pending() as u64, self.queued());
        let mut waited = [0; HISTOGRAM];
        let mut ran = [0; HISTOGRAM];
        for (_, times) in self.queues.iter().flat_map(|queue| queue.times()) {
            times.waited.add_to(&mut waited);
            times.ran.add_to(&mut ran);
        }
        let numbers = [
            counters.submitted.get(),
            queued,
            pending.saturating_sub(queued),
            counters.ok.get(),
            counters.failed.get(),
            counters.panicked.get(),
            counters.cancelled.get(),
            counters.timed_out.get(),
            counters.worker_lost.get(),
            counters.pool_closed.get(),
            counters.other.get(),
            counters.retries.get(),
            counters.requeued.get(),
            counters.deaths.get(),
            counters.recycles.get(),
            counters.killed_for_deadline.get(),
            counters.killed_for_damage.get(),
            self.workers().len() as u64,
            self.cpu_ns(),
            self.common.inputs.used() as u64,
            self.queues.iter().map(|queue| queue.free_records() as u64).sum(),
        ];
        Numbers { numbers, waited, ran }
    }
}

impl Load for Shared {
    fn queues(&self) -> usize {
        self.queues.len()
    }

    fn depth(&self, queue: usize) -> usize {
        self.depth_up_to(queue, u8::MAX)
    }

    fn depth_up_to(&self, queue: usize, class: u8) -> usize {
        self.queues.get(queue).map_or(0, |queue| queue.depth(usize::from(class)))
    }

    fn pending(&self, queue: usize) -> usize {
        self.queues.get(queue).map_or(0, |queue| queue.pending())
    }

    fn processes(&self, queue: usize) -> usize {
        self.alive_on(queue)
    }
}
