//! What the scheduler sees of the queues, and hears of what happens on them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::queue::Observer;
use crate::scheduler::{CompletedTask, Load, ProcessInfo, Scheduler};
use crate::task::Outcome;

use super::Shared;

/// Passes events on to the scheduler. It is called by the thread that drains, which may be the
/// supervisor; so a scheduler that panics must do no harm there.
pub(super) struct Told {
    pub(super) scheduler: Arc<dyn Scheduler>,
    /// The pool's number, for events.
    pub(super) pool: usize,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl Told {
    fn tell(&self, what: impl FnOnce(&dyn Scheduler)) {
        if catch_unwind(AssertUnwindSafe(|| what(&*self.scheduler))).is_err() {
            tracing::error!(pool = self.pool, "the scheduler panicked");
        }
    }
}

impl Observer for Told {
    fn completed(&self, queue: u16, task: u64, outcome: &Outcome) {
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
            }
        }
        self.tell(|scheduler| scheduler.complete_task(&task));
    }
}

impl Shared {
    fn told(&self) -> Told {
        Told { scheduler: Arc::clone(&self.scheduler), pool: self.id }
    }

    pub(super) fn process_started(&self, process: &ProcessInfo) {
        let ProcessInfo { queue, worker, pid } = *process;
        tracing::debug!(pool = self.id, worker, pid, queue, "a worker was started");
        self.told().tell(|scheduler| scheduler.process_started(process));
    }

    pub(super) fn process_ended(&self, process: &ProcessInfo, died: bool) {
        let ProcessInfo { worker, pid, .. } = *process;
        tracing::debug!(pool = self.id, worker, pid, died, "a worker has ended");
        self.told().tell(|scheduler| scheduler.process_ended(process, died));
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
