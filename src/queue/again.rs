//! The end of an attempt: the task is over, or gets another attempt, now or after a pause.
//!
//! `table/README.md` ("Attempts") has the rules. A caller's predicate is asked without a lock. The
//! task waits meanwhile: HELD if its record is the host's, CANCELLING if it is still its worker's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sys::clock::monotonic_ns;
use crate::task::{Ended, TaskError};

use super::delivery::{Deliveries, End, Question};
use super::entry::{Pending, Standing, Ticket};
use super::submit::after;
use super::timers::{Due, TaskDue};
use super::{HostQueue, QueueState};

/// Whose the record of an attempt is that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Nothing of the attempt is left in any worker.
    Host,
    /// CANCELLING: its worker has still to let go of it.
    Worker,
}

/// What follows an attempt.
enum Next {
    /// The task ends with the attempt's end.
    Nothing,
    Attempt,
    /// The task ends with it, and its outcome is told when its worker has let go: another machine
    /// may begin the next attempt then.
    Release,
    /// The caller's predicate decides.
    Question,
}

/// Returns what follows an attempt of `pending` that ended so.
fn next(pending: &Pending, end: &End) -> Next {
    let options = &pending.options;
    if options.is_decided_elsewhere() {
        let late = matches!(end.error, TaskError::TimedOut { .. }) && options.retries_on_timeout();
        return if late { Next::Release } else { Next::Nothing };
    }
    // What another task did costs no attempt, but says nothing of one that may not run twice.
    let left = if end.counts { pending.failures < options.retries } else { options.retries > 0 };
    if !left {
        return Next::Nothing;
    }
    if options.predicate().is_some() {
        return Next::Question;
    }
    let wanted = match end.error {
        TaskError::Failed(_) | TaskError::Panicked(_) => options.retries_on_error(),
        TaskError::TimedOut { .. } => options.retries_on_timeout(),
        _ => true,
    };
    if wanted { Next::Attempt } else { Next::Nothing }
}

impl Pending {
    /// Counts the attempt that ended so, and begins the next.
    fn begin_next(&mut self, end: &End) {
        if end.counts {
            self.failures += 1;
        } else {
            self.spared += 1;
        }
        self.attempts += 1;
        self.alone |= end.alone;
        let story = match &end.error {
            TaskError::WorkerLost(lost) => {
                let (worker, pid, exit) = (lost.worker, lost.pid, &lost.exit);
                format!("worker {worker} (pid {pid}) {exit} after {:?}", lost.running)
            }
            other => other.to_string(),
        };
        self.earlier.push(story);
    }
}

impl HostQueue {
    /// Ends an attempt of the task of record `index`, which is `whose`. Returns the error if the
    /// task ends with it; the caller delivers it.
    pub(super) fn end_attempt(
        &self,
        state: &mut QueueState,
        index: usize,
        whose: Whose,
        end: End,
        deliveries: &mut Deliveries,
    ) -> Option<TaskError> {
        let Some(pending) = state.entries[index].pending.as_mut() else { return Some(end.error) };
        match (next(pending, &end), pending.options.predicate()) {
            (Next::Attempt, _) => {
                pending.begin_next(&end);
                self.common.counters.retries.add(1);
                match whose {
                    Whose::Worker => state.entries[index].standing = Standing::Granted,
                    Whose::Host if end.at_once => {
                        if let Some(pending) = state.take_pending(index) {
                            self.put_back(state, index, pending);
                        }
                    }
                    Whose::Host => {
                        state.hold(index);
                        self.time_next(state, index);
                    }
                }
            }
            (Next::Release, _) if whose == Whose::Worker => {
                state.entries[index].standing = Standing::Granted;
            }
            (Next::Question, Some(predicate)) => {
                let (task, attempt, token) = (pending.task, pending.attempts, pending.token);
                let ticket = Ticket { queue: self.index, record: index as u32, task };
                state.entries[index].standing = Standing::Asked;
                if whose == Whose::Host {
                    state.hold(index);
                }
                deliveries.ask(Question { ticket, attempt, token, predicate, end });
            }
            _ => return Some(end.error),
        }
        None
    }

    /// Sets the timer that queues a HELD task again, after its pause.
    fn time_next(&self, state: &mut QueueState, index: usize) {
        let entry = &mut state.entries[index];
        entry.standing = Standing::Plain;
        let Some(pending) = &entry.pending else { return };
        let now = monotonic_ns();
        let pause = pending.options.pause_by_chance(pending.attempts, now ^ pending.task << 32);
        let ticket = Ticket { queue: self.index, record: index as u32, task: pending.task };
        self.common.set_timer(after(now, pause), ticket, Due::Task(TaskDue::Retry));
    }

    /// The worker of a cancelled attempt has let go of it, or is dead.
    pub(super) fn let_go(&self, state: &mut QueueState, index: usize) {
        let entry = &mut state.entries[index];
        if entry.pending.is_none() {
            entry.standing = Standing::Plain;
            return self.free_of_dead(state, index);
        }
        let granted = entry.standing == Standing::Granted;
        state.hold(index);
        if granted {
            self.time_next(state, index);
        }
    }

    /// Asks a caller's predicate, and does what it says; no lock is held.
    pub(super) fn ask(&self, Question { ticket, attempt, token, predicate, end }: Question) {
        let ended = Ended { error: &end.error, attempt, token };
        let said = catch_unwind(AssertUnwindSafe(|| predicate.says(&ended)));
        let again = said.unwrap_or_else(|_| {
            tracing::error!(task = ticket.task, "a predicate of `retry_if` panicked");
            false
        });
        let mut deliveries = Deliveries::default();
        let mut state = self.lock();
        let index = ticket.record as usize;
        let entry = &mut state.entries[index];
        let asked = entry.standing == Standing::Asked;
        let pending = entry
            .pending
            .as_mut()
            .filter(|pending| asked && (pending.task, pending.attempts) == (ticket.task, attempt));
        // Cancelled meanwhile, or the pool has ended.
        let Some(pending) = pending else { return };
        if again {
            pending.begin_next(&end);
            self.common.counters.retries.add(1);
            if entry.held {
                self.time_next(&mut state, index);
            } else {
                entry.standing = Standing::Granted;
            }
        } else {
            entry.standing = Standing::Plain;
            let held = entry.held;
            if let Some(pending) = state.take_pending(index) {
                deliveries.push_error(&mut state.receivers, &pending, end.error);
                if held {
                    self.free(&mut state, index);
                }
            }
        }
        self.note_pending(&state);
        let woken = state.room.take(1);
        drop(state);
        woken.into_iter().for_each(std::task::Waker::wake);
        self.deliver(&mut deliveries);
    }
}

impl QueueState {
    /// DONE or a dead worker's word → HELD: the task waits for its next attempt.
    pub(super) fn hold(&mut self, index: usize) {
        self.help_past(index);
        let entry = &mut self.entries[index];
        entry.held = true;
        self.control.records()[index].hold(entry.generation);
    }
}
