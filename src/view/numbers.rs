//! What a pool has counted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stats::Histogram;

/// A snapshot of a pool's counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    #[serde(rename = "cpu_ns", with = "nanoseconds")]
    pub cpu: Duration,
    /// Processor time of the host process, user and system, all its threads together.
    #[serde(rename = "host_cpu_ns", with = "nanoseconds")]
    pub host_cpu: Duration,
    /// Bytes of the request arena in use.
    pub input_bytes: u64,
    /// Records that are free, of all queues.
    pub free_records: u64,
    /// How the tasks of each function ended and how long they took; functions of which none has
    /// ended are not there.
    #[serde(skip)]
    pub functions: Vec<FunctionStats>,
}

impl Stats {
    /// Returns how many outcomes there were, of every kind. With the tasks that are
    /// [`pending`](Self::pending) these are all that were [`submitted`](Self::submitted).
    #[must_use]
    pub fn outcomes(&self) -> u64 {
        [
            self.ok,
            self.failed,
            self.panicked,
            self.cancelled,
            self.timed_out,
            self.worker_lost,
            self.pool_closed,
            self.other,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// How the tasks of one function ended, and how long they took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FunctionStats {
    /// The function's name.
    pub name: String,
    /// Outcomes: values.
    pub ok: u64,
    /// Outcomes: errors that the function returned.
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
    /// From the submission to the start of the last attempt, of tasks that a worker finished.
    pub waited: Histogram,
    /// How long the last attempt ran, likewise.
    pub ran: Histogram,
}

impl FunctionStats {
    /// Returns how many tasks of the function have ended.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ok.saturating_add(self.errors())
    }

    /// Returns how many of them ended without a value.
    #[must_use]
    pub fn errors(&self) -> u64 {
        [
            self.failed,
            self.panicked,
            self.cancelled,
            self.timed_out,
            self.worker_lost,
            self.pool_closed,
            self.other,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

mod nanoseconds {
    use super::{Deserialize, Duration, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        time: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).serialize(to)
    }

    pub(super) fn deserialize<'d, D: serde::Deserializer<'d>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_nanos)
    }
}
