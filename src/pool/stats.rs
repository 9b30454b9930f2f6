//! What a pool has counted.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::supervisor::Shared;
use crate::sys::clock::cpu_ns_of;

/// A snapshot of a pool's counts.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks submitted.
    pub submitted: u64,
    /// Tasks without an outcome now.
    pub pending: u64,
    /// Outcomes: values.
    pub ok: u64,
    /// Outcomes: errors that task functions returned.
    pub failed: u64,
    /// Outcomes: panics.
    pub panicked: u64,
    /// Outcomes: tasks called off.
    pub cancelled: u64,
    /// Outcomes: deadlines.
    pub timed_out: u64,
    /// Outcomes: workers that died.
    pub worker_lost: u64,
    /// Outcomes: tasks that the pool's end overtook.
    pub pool_closed: u64,
    /// Outcomes: everything else.
    pub other: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Tasks queued again that no worker had started.
    pub requeued: u64,
    /// Workers that died unplanned.
    pub deaths: u64,
    /// Workers replaced after `max_tasks_per_child`.
    pub recycles: u64,
    /// Times that shared memory held what no correct worker writes, and workers were replaced.
    pub damages: u64,
    /// Workers alive now.
    pub workers: u64,
    /// Processor time of the workers, user and system, those that are gone included.
    pub cpu: Duration,
    /// Bytes of the request arena in use.
    pub input_bytes: u64,
    /// Records that are free, of all queues.
    pub free_records: u64,
}

impl Stats {
    pub(super) fn of(shared: &Shared) -> Self {
        let counters = &shared.common.counters;
        let workers = shared.workers();
        let living: u64 = workers.iter().filter_map(|worker| cpu_ns_of(worker.pid)).sum();
        Self {
            submitted: counters.submitted.get(),
            pending: shared.pending() as u64,
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
            recycles: counters.recycles.get(),
            damages: counters.corrupt.get(),
            workers: workers.len() as u64,
            cpu: Duration::from_nanos(counters.cpu_ns.get().saturating_add(living)),
            input_bytes: shared.common.inputs.used() as u64,
            free_records: shared.queues.iter().map(|queue| queue.free_records() as u64).sum(),
        }
    }
}
