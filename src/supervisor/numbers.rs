//! The numbers of a pool: for its owner, for observers and for the stats page.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::queue::HostQueue;
use crate::scheduler::Load;
#[cfg(feature = "stats-page")]
use crate::stats::Numbers;
use crate::stats::{HISTOGRAM, Histogram};
use crate::sys::clock::cpu_ns_of;
use crate::view::{FunctionStats, Stats};

use super::Shared;

impl Shared {
    /// Returns about how many tasks no worker has taken.
    pub(crate) fn queued(&self) -> u64 {
        let queued =
            |queue: &std::sync::Arc<HostQueue>| queue.depth(usize::MAX).min(queue.pending()) as u64;
        self.queues.iter().map(queued).sum()
    }

    /// Returns the processor time of all workers so far.
    fn cpu_ns(&self) -> u64 {
        let living: u64 = self.workers().iter().filter_map(|worker| cpu_ns_of(worker.pid)).sum();
        self.common.counters.cpu_ns.get().saturating_add(living)
    }

    /// Returns what the pool has counted, without the functions.
    fn totals(&self) -> Stats {
        let counters = &self.common.counters;
        let mut all = Stats {
            ok: counters.ok.get(),
            failed: counters.failed.get(),
            panicked: counters.panicked.get(),
            cancelled: counters.cancelled.get(),
            timed_out: counters.timed_out.get(),
            worker_lost: counters.worker_lost.get(),
            pool_closed: counters.pool_closed.get(),
            other: counters.other.get(),
            retries: counters.retries.get(),
            requeued: counters.requeued.get(),
            deaths: counters.deaths.get(),
            killed_for_deadline: counters.killed_for_deadline.get(),
            killed_for_damage: counters.killed_for_damage.get(),
            recycles: counters.recycles.get(),
            damages: counters.corrupt.get(),
            workers: self.workers().len() as u64,
            cpu: Duration::from_nanos(self.cpu_ns()),
            host_cpu: Duration::from_nanos(cpu_ns_of(self.pid).unwrap_or(0)),
            input_bytes: self.common.inputs.used() as u64,
            free_records: self.queues.iter().map(|queue| queue.free_records() as u64).sum(),
            ..Stats::default()
        };
        // After the outcomes: a task that ends between the two looks is pending.
        all.submitted = self.queues.iter().map(|queue| queue.submitted()).sum();
        // Not what the queues hold: a task leaves its queue before its outcome is counted.
        all.pending = all.submitted.saturating_sub(all.outcomes());
        all.queued = self.queued().min(all.pending);
        all.running = all.pending - all.queued;
        all
    }

    /// Returns what the pool has counted.
    pub(crate) fn stats(&self) -> Stats {
        // A forked child waits for no lock: a thread that it has not may hold one.
        if !self.is_owner() {
            return Stats::default();
        }
        let mut functions = BTreeMap::new();
        for (number, times) in self.queues.iter().flat_map(|queue| queue.times()) {
            let of_all = || (FunctionStats::default(), [0; HISTOGRAM], [0; HISTOGRAM]);
            let (outcomes, waited, ran) = functions.entry(number).or_insert_with(of_all);
            times.add_outcomes_to(outcomes);
            times.waited.add_to(waited);
            times.ran.add_to(ran);
        }
        let functions = functions.into_iter().map(|(number, (outcomes, waited, ran))| {
            let name = self.common.inputs.function_name(number).to_owned();
            let (waited, ran) = (Histogram::new(&waited), Histogram::new(&ran));
            FunctionStats { name, waited, ran, ..outcomes }
        });
        Stats { functions: functions.collect(), ..self.totals() }
    }

    /// Returns all numbers, as the page has them.
    #[cfg(feature = "stats-page")]
    pub(crate) fn numbers(&self) -> Numbers {
        let mut waited = [0; HISTOGRAM];
        let mut ran = [0; HISTOGRAM];
        for (_, times) in self.queues.iter().flat_map(|queue| queue.times()) {
            times.waited.add_to(&mut waited);
            times.ran.add_to(&mut ran);
        }
        let all = self.totals();
        let numbers = [
            all.submitted,
            all.queued,
            all.running,
            all.ok,
            all.failed,
            all.panicked,
            all.cancelled,
            all.timed_out,
            all.worker_lost,
            all.pool_closed,
            all.other,
            all.retries,
            all.requeued,
            all.deaths,
            all.recycles,
            all.killed_for_deadline,
            all.killed_for_damage,
            all.workers,
            all.cpu.as_nanos() as u64,
            all.input_bytes,
            all.free_records,
        ];
        Numbers { numbers, waited, ran }
    }
}

impl Shared {
    /// Returns whether every task goes to the one queue and no scheduler wants to be asked.
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub(crate) fn has_no_choice(&self) -> bool {
        self.queues.len() == 1 && !self.scheduler.minds_load()
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
