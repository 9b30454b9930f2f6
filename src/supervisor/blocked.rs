//! Polls that last too long become events, where the builder asked for that.

use std::collections::HashMap;

use crate::control::Polled;
use crate::view::Kind;

use super::shared::Shared;

/// The shortest and the longest pause between two looks, in nanoseconds.
const PAUSES: [u64; 2] = [5_000_000, 1_000_000_000];

/// What the last look has seen.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    next: Option<u64>,
    /// By process id: the poll it was in, when that was first seen, and whether it was told.
    polls: HashMap<u32, (Polled, u64, bool)>,
}

impl Blocked {
    /// Returns when to look next; `None` while no worker has a task.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }

    /// Takes note of each poll that has lasted longer than the builder said, once.
    pub(super) fn note(&mut self, shared: &Shared, now: u64) {
        let Some(after) = shared.plan.blocked_after_ns else { return };
        if self.next.is_some_and(|at| at > now) {
            return;
        }
        if !shared.queues.iter().any(|queue| queue.has_records_out()) {
            (self.next, self.polls) = (None, HashMap::new());
            return;
        }
        self.next = Some(now + (after / 4).clamp(PAUSES[0], PAUSES[1]));
        let workers = shared.workers();
        self.polls.retain(|pid, _| workers.iter().any(|worker| worker.pid == *pid));
        for worker in workers {
            let control = shared.queues[usize::from(worker.queue)].control();
            let polled = control.report(usize::from(worker.slot)).busy_with();
            let known = self.polls.entry(worker.pid).or_insert((polled, now, false));
            if known.0 != polled {
                *known = (polled, now, false);
            }
            // The worker has written it: any number.
            let record = polled.record().and_then(|record| control.records().get(record as usize));
            let (Some(record), (_, since, false)) = (record, *known) else { continue };
            let lasted = std::time::Duration::from_nanos(now - since);
            if now - since >= after {
                known.2 = true;
                let call = record.call();
                let (task, function) =
                    (shared.whole(call.task()), shared.common.inputs.function_name(call.function));
                let text = format!("task {task} ({function}) has held its worker for {lasted:.1?}");
                let worker_of = Some((worker.seat, worker.pid));
                shared.common.events.note(Kind::Blocked, worker_of, text);
                tracing::warn!(
                    pool = shared.id,
                    worker = worker.seat,
                    task,
                    function,
                    "a task holds up its worker"
                );
            }
        }
    }
}
