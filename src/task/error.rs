//! What a task can end with besides its value.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;

use super::exit::WorkerExit;
use super::failure::{TaskFailure, TaskPanic};

/// Why a task has no value.
///
/// Every submitted task ends exactly once: with its value or with one of these.
// A word says which it is, not a byte: a value beside it is then copied word by word, not in pieces
// that a later load has to wait for. For speed only; which number a variant has is no promise.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
#[repr(u64)]
pub enum TaskError {
    /// The task function returned an error.
    #[error("{0}")]
    Failed(TaskFailure),
    /// The task function panicked.
    #[error("the task panicked: {0}")]
    Panicked(TaskPanic),
    /// The task was cancelled.
    #[error("the task was cancelled")]
    Cancelled,
    /// The task did not end, or did not start, in the time it was given.
    #[error("the task {} within {limit:?}", if *.started { "did not end" } else { "was not started" })]
    TimedOut {
        /// The time it was given.
        limit: Duration,
        /// Whether it was running when time ran out.
        started: bool,
    },
    /// Another task held the worker for so long that this one's time ran out without it.
    #[error("{0}")]
    NeighbourBlocked(Box<Blocked>),
    /// The worker that ran the task died.
    #[error("{0}")]
    WorkerLost(Box<WorkerLost>),
    /// The pool ended before the task did.
    #[error("the pool ended before the task did{}", .reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    PoolClosed {
        /// What ended the pool, where it was not the caller.
        reason: Option<Arc<Error>>,
    },
    /// The task could not be submitted.
    #[error("{0}")]
    NotSubmitted(Arc<Error>),
    /// The worker could not decode the input, or does not know the function.
    #[error("the worker could not take the task on: {0}")]
    Refused(String),
    /// The value could not be encoded by the worker or decoded by the host.
    #[error("the task's value cannot be transported: {0}")]
    Value(String),
    /// The value found no room in the worker's result arena because loans fill it.
    #[error("the task's value found no room: {0}")]
    OutputSpace(String),
    /// Shared memory holds something that no correct worker writes.
    #[error("shared memory is corrupt: {0}")]
    Corrupt(String),
}

/// A task whose time ran out while another one held their worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Blocked {
    /// The time that the task was given.
    pub limit: Duration,
    /// The number of the task that held the worker, in its pool.
    pub by: u64,
    /// The name of that task's function.
    pub function: String,
}

impl std::fmt::Display for Blocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { limit, by, function } = self;
        write!(
            f,
            "the task did not end within {limit:?}, because task {by} ({function}) held its worker \
             and let no other run: let that one pause (await) now and then, or give it a pool \
             with a child_concurrency of 1"
        )
    }
}

/// A worker that died with a task, and the task's attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerLost {
    /// The task's number in its pool.
    pub task: u64,
    /// The task function's name.
    pub function: String,
    /// The worker's seat in the pool, 0-based.
    pub worker: u32,
    /// The worker's process id.
    pub pid: u32,
    /// How the worker came to its end.
    pub exit: WorkerExit,
    /// Why the worker was ended, where the pool did it on purpose.
    pub cause: LossCause,
    /// Attempts made, this one included.
    pub attempt: u32,
    /// Attempts allowed: one, the retries, and those that ended beside other suspects.
    pub attempts_allowed: u32,
    /// How long the task had been running.
    pub running: Duration,
    /// Whether the task may have been what ended the worker: it was the one that ran at that
    /// moment, or nothing says which one did. False for a bystander: another task was running, and
    /// this one waited for something.
    pub suspect: bool,
    /// How far the task had come, if it said so with [`progress`](crate::progress).
    pub progress: Option<u64>,
    /// The last lines of the worker's standard error, up to 2 KiB, where the pool has that go to
    /// files ([`output_to`](crate::PoolBuilder::output_to)); what all its tasks have written.
    pub stderr: String,
    /// What ended the earlier attempts, oldest first.
    pub earlier: Vec<String>,
}

/// Why a worker was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LossCause {
    /// It died by itself, or another process killed it.
    Death,
    /// The pool killed it because a task in it did not obey its deadline, or a cancel that kills.
    NeighbourTimedOut,
    /// The pool killed it because it had damaged shared memory.
    Damage,
    /// The pool killed it because a task had replaced it by another program (`exec`), which takes
    /// no tasks and ends none.
    Replaced,
}

impl std::fmt::Display for WorkerLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { task, function, worker, pid, exit, attempt, attempts_allowed, .. } = self;
        write!(f, "task {task} ({function}) lost: worker {worker} (pid {pid}) {exit}")?;
        match self.cause {
            LossCause::Death => {}
            LossCause::NeighbourTimedOut => {
                let which = if self.suspect { "it" } else { "another task in it" };
                write!(f, " because {which} did not obey its deadline")?;
            }
            LossCause::Damage => f.write_str(" because it had damaged shared memory")?,
            LossCause::Replaced => {
                let which = if self.suspect { "it" } else { "another task in it" };
                write!(
                    f,
                    " because {which} had replaced the worker by another program (exec): start \
                     programs as children instead"
                )?;
            }
        }
        write!(
            f,
            " on attempt {attempt} of {attempts_allowed}, {:?} after its start",
            self.running
        )?;
        if !self.suspect && self.cause == LossCause::Death {
            f.write_str(" (a bystander: another task was running at that moment)")?;
        }
        if let Some(line) = self.stderr.lines().next_back() {
            write!(f, "; its last words: {line}")?;
        }
        self.earlier
            .iter()
            .enumerate()
            .try_for_each(|(i, end)| write!(f, "; attempt {}: {end}", i + 1))
    }
}

impl std::error::Error for WorkerLost {}

impl TaskError {
    /// Returns the error of a task that never was submitted.
    pub(crate) fn not_submitted(error: Error) -> Self {
        match error {
            Error::Closed => Self::PoolClosed { reason: None },
            other => Self::NotSubmitted(Arc::new(other)),
        }
    }

    /// Returns whether the task was not submitted because the pool was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::NotSubmitted(error) if matches!(**error, Error::Full))
    }

    /// Returns whether another task is what ended this one: it held their worker, or was running
    /// when that died.
    #[must_use]
    pub fn is_bystander(&self) -> bool {
        match self {
            Self::NeighbourBlocked(_) => true,
            Self::WorkerLost(lost) => !lost.suspect,
            _ => false,
        }
    }

    /// Returns what the worker's death says, if that is what ended the task.
    #[must_use]
    pub fn worker_lost(&self) -> Option<&WorkerLost> {
        match self {
            Self::WorkerLost(lost) => Some(lost),
            _ => None,
        }
    }
}
