//! Reports what happens in a pool: to its scheduler, and as events.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::logs::Callers;
use crate::queue::Observer;
use crate::scheduler::{CompletedTask, ProcessInfo, Scheduler};
use crate::task::{Outcome, TaskError};
use crate::view::{Events, Kind};

/// Passes events on to the scheduler. The thread that drains calls it, which may be the supervisor:
/// a scheduler that panics must do no harm there.
#[derive(Clone)]
pub(super) struct Notifier {
    scheduler: Arc<dyn Scheduler>,
    /// The pool's number, for events.
    pool: usize,
    callers: Option<Arc<Callers>>,
    events: Arc<Events>,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notifier")
    }
}

impl Notifier {
    pub(super) fn new(
        scheduler: Arc<dyn Scheduler>,
        pool: usize,
        callers: Option<Arc<Callers>>,
        events: Arc<Events>,
    ) -> Self {
        Self { scheduler, pool, callers, events }
    }

    pub(super) fn process_started(&self, process: &ProcessInfo) {
        let ProcessInfo { queue, worker, pid } = *process;
        tracing::debug!(pool = self.pool, worker, pid, queue, "a worker was started");
        self.notify(|scheduler| scheduler.process_started(process));
    }

    pub(super) fn process_ended(&self, process: &ProcessInfo, died: bool) {
        let ProcessInfo { worker, pid, .. } = *process;
        tracing::debug!(pool = self.pool, worker, pid, died, "a worker has ended");
        self.notify(|scheduler| scheduler.process_ended(process, died));
    }

    fn notify(&self, event: impl FnOnce(&dyn Scheduler)) {
        if catch_unwind(AssertUnwindSafe(|| event(&*self.scheduler))).is_err() {
            tracing::error!(pool = self.pool, "the scheduler panicked");
        }
    }
}

impl Observer for Notifier {
    fn minds_values(&self) -> bool {
        self.callers.is_some()
            || self.scheduler.minds_outcomes()
            || tracing::enabled!(tracing::Level::TRACE)
    }

    fn completed(&self, queue: u16, outcomes: &mut dyn Iterator<Item = (u64, &Outcome)>) {
        // Asked once for all of them: most pools have nobody who wants to know of a value.
        let told = self.minds_values();
        for (task, outcome) in outcomes {
            if told || outcome.result.is_err() {
                self.task_ended(queue, task, outcome);
            }
        }
    }
}

impl Notifier {
    fn task_ended(&self, queue: u16, task: u64, outcome: &Outcome) {
        if let Some(callers) = &self.callers {
            callers.over(task);
        }
        let task = CompletedTask {
            task,
            queue: usize::from(queue),
            ok: outcome.result.is_ok(),
            waited: outcome.waited(),
            ran: outcome.ran(),
        };
        match &outcome.result {
            Ok(_) => {
                tracing::trace!(pool = self.pool, task = task.task, ran = ?task.ran, "a task has its value")
            }
            Err(error) => {
                tracing::debug!(pool = self.pool, task = task.task, %error, "a task has no value");
                let kind = match error {
                    TaskError::TimedOut { .. } => Some(Kind::Timeout),
                    TaskError::WorkerLost(_) => Some(Kind::PoisonTask),
                    _ => None,
                };
                if let Some(kind) = kind {
                    self.events.note_task(kind, task.task, || error.to_string());
                }
            }
        }
        self.notify(|scheduler| scheduler.complete_task(&task));
    }
}
