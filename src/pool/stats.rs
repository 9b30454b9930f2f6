//! What a pool has counted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::stats::{BUCKETS, HISTOGRAM, Histogram};
use crate::supervisor::Shared;

/// A snapshot of a pool's counts.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks submitted.
    pub submitted: u64,
    /// Tasks without an outcome now.
    pub pending: u64,
    /// Those of them that no worker has taken, about.
    pub queued: u64,
    /// Those of them that a worker has taken.
    pub running: u64,
    /// Outcomes: values.
    pub ok: u64,
    /// Outcomes: errors that task functions returned.
    pub failed: u64,
    /// Outcomes: panics.
    pub panicked: u64,
    /// Outcomes: tasks cancelled.
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
    /// Workers that ended unplanned, those that the pool killed included.
    pub deaths: u64,
    /// Workers that the pool killed because a task did not obey its deadline.
    pub killed_for_deadline: u64,
    /// Workers that the pool killed because they had damaged shared memory.
    pub killed_for_damage: u64,
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
    /// How long the tasks of each function waited and ran; functions of which none has ended are
    /// not there.
    pub functions: Vec<FunctionStats>,
}

/// How long the tasks of one function took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionStats {
    /// The function's name.
    pub name: String,
    /// From the submission to the start of the last attempt.
    pub waited: Histogram,
    /// How long the last attempt ran.
    pub ran: Histogram,
}

impl Stats {
    pub(super) fn of(shared: &Shared) -> Self {
        if !shared.is_owner() {
            return Self::default();
        }
        let counters = &shared.common.counters;
        let (pending, queued) = (shared.pending() as u64, shared.queued());
        let mut functions = BTreeMap::new();
        for (number, times) in shared.queues.iter().flat_map(|queue| queue.times()) {
            let (waited, ran) = functions.entry(number).or_insert(([0; HISTOGRAM], [0; HISTOGRAM]));
            times.waited.add_to(waited);
            times.ran.add_to(ran);
        }
        let histogram = |all: &[u64; HISTOGRAM]| Histogram::new(&all[..BUCKETS], all[BUCKETS]);
        let functions = functions.iter().map(|(&number, (waited, ran))| FunctionStats {
            name: shared.common.inputs.function_name(number).to_owned(),
            waited: histogram(waited),
            ran: histogram(ran),
        });
        Self {
            submitted: counters.submitted.get(),
            pending,
            queued,
            running: pending.saturating_sub(queued),
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
            workers: shared.workers().len() as u64,
            cpu: Duration::from_nanos(shared.cpu_ns()),
            input_bytes: shared.common.inputs.used() as u64,
            free_records: shared.queues.iter().map(|queue| queue.free_records() as u64).sum(),
            functions: functions.collect(),
        }
    }
}
