//! Cancelling tasks: by their owner, by deadline, and what comes due later.

use std::sync::MutexGuard;
use std::time::Duration;

use crate::control::Polled;
use crate::sys::clock::monotonic_ns;
use crate::table::{CancelResult, Owner, State};
use crate::task::{Blocked, TaskError, TaskOptions};

use super::again::Whose;
use super::delivery::{Deliveries, End};
use super::entry::{Entry, Pending, Standing, Ticket};
use super::submit::after;
use super::timers::{Attempt, Due, Expects, Generation, TaskDue};
use super::{HostQueue, QueueState};

/// Why a task is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its owner no longer wants it.
    Cancel,
    /// The same, but a task that a worker has goes on.
    CancelQueued,
    /// As `Cancel`; a worker that has not dropped it after that many nanoseconds is killed.
    CancelWithin(u64),
    /// Its time is up.
    Deadline,
    /// Its time is up, and the task of this record has held their worker.
    Blocked(u32),
}

/// A worker that is still in the same poll of another task's future, this part of the limit later,
/// is held by that task. Long enough for a loop that turns to come to the next poll, on a busy
/// machine, too; and the end of a task that is timed out is later by this much at most.
const HELD_PART: u32 = 8;
const HELD_LEAST: Duration = Duration::from_millis(20);
const HELD_MOST: Duration = Duration::from_millis(250);

impl HostQueue {
    /// Cancels the task and delivers its outcome. False if it was over already.
    pub(crate) fn cancel(&self, ticket: Ticket, reason: Reason) -> bool {
        let mut state = self.lock();
        let mut deliveries = Deliveries::default();
        let Some(owner) = self.cancel_pending(&mut state, ticket, reason, &mut deliveries) else {
            return false;
        };
        self.note_pending(&state);
        let woken = state.room.take(1);
        let control = std::sync::Arc::clone(&state.control);
        drop(state);
        woken.into_iter().for_each(std::task::Waker::wake);
        if let Some(owner) = owner {
            let slot = owner.slot();
            if slot < self.bells.len() {
                control.attention(slot).call();
                self.ring(slot);
            }
        }
        self.deliver(&mut deliveries);
        true
    }

    /// Returns the ticket of task number `task` if it is pending in this queue. Searches the whole
    /// table.
    pub(crate) fn find(&self, task: u64) -> Option<Ticket> {
        let state = self.lock();
        let at = |entry: &Entry| entry.pending.as_ref().is_some_and(|known| known.task == task);
        let record = state.entries.iter().position(at)? as u32;
        Some(Ticket { queue: self.index, record, task })
    }

    /// Acts on a timer of the task that came due. Returns the owner of a worker slot whose worker
    /// is to be killed: it did not do what it had to within the grace period.
    pub(crate) fn expire(&self, ticket: Ticket, due: Due) -> Option<Owner> {
        match due {
            Due::Worker { generation, expects } => self.stuck(ticket, generation, expects),
            Due::Task(due) => {
                self.expire_task(ticket, due);
                None
            }
        }
    }

    /// Returns whether a timer of the task would still do something: those of a worker outlive the
    /// outcome of the task that it is stuck with.
    pub(crate) fn matters(&self, ticket: Ticket, due: Due) -> bool {
        match due {
            Due::Worker { generation, expects } => {
                self.stuck(ticket, generation, expects).is_some()
            }
            Due::Task(_) => self.is_pending(ticket),
        }
    }

    /// Returns the owner of the record if it is still in the state that it should have left. Only
    /// the state word tells: the task's outcome may be delivered already.
    fn stuck(&self, ticket: Ticket, generation: Generation, expects: Expects) -> Option<Owner> {
        let stands = match expects {
            Expects::Start => State::Claimed,
            Expects::Drop => State::Cancelling,
        };
        let state = self.lock();
        let index = ticket.record as usize;
        let word = state.control.records()[index].state();
        let is_stuck = state.entries[index].knows(word)
            && Generation(word.generation()) == generation
            && word.state() == Some(stands);
        is_stuck.then(|| word.owner())
    }

    fn expire_task(&self, ticket: Ticket, due: TaskDue) {
        let state = self.lock();
        let Some(pending) = state.pending(ticket) else { return };
        let (attempt, options) = (Attempt(pending.attempts), pending.options);
        let index = ticket.record as usize;
        let word = state.control.records()[index].state();
        let generation = Generation(word.generation());
        let now = monotonic_ns();
        match due {
            TaskDue::Retry => return self.end_hold(state, ticket),
            // The limit holds for the first attempt only.
            TaskDue::QueueTtl if attempt > Attempt(1) => return,
            TaskDue::QueueTtl => match word.state() {
                Some(State::Queued) => {}
                Some(State::Claimed) => {
                    drop(state);
                    return self.await_start(ticket, generation, now);
                }
                _ => return,
            },
            TaskDue::Overdue(overdue) | TaskDue::Held(overdue, _) => {
                // A task that was queued again meanwhile has a timer of its own.
                let has_it = matches!(word.state(), Some(State::Claimed | State::Running));
                if generation != overdue || !has_it {
                    return;
                }
            }
            TaskDue::Timeout(timed) if timed != attempt => return,
            TaskDue::Timeout(_) => {
                let limit = options.run_limit().unwrap_or_default();
                let overdue = TaskDue::Overdue(Generation(state.entries[index].generation));
                // A worker that forges the time of its start, or never starts, gains one more
                // limit and not a third.
                let (again, due) = match word.state() {
                    Some(State::Running) => {
                        let started = state.control.records()[index].started().min(now);
                        (after(started, limit), overdue)
                    }
                    Some(State::Claimed) => (after(now, limit), overdue),
                    // It has not started, and the limit counts from the start.
                    Some(State::Queued) => (after(now, limit), due),
                    _ => return,
                };
                if again > now {
                    drop(state);
                    return self.common.set_timer(again, ticket, Due::Task(due));
                }
            }
        }
        let mut reason = Reason::Deadline;
        if word.state() == Some(State::Running)
            && let Some((polled, other)) = state.polled_beside(index, word.owner())
        {
            match due {
                TaskDue::Held(_, seen) if seen == polled => reason = Reason::Blocked(other),
                TaskDue::Held(..) => {}
                _ => {
                    drop(state);
                    let limit = options.run_limit().unwrap_or_default() / HELD_PART;
                    let at = after(now, limit.clamp(HELD_LEAST, HELD_MOST));
                    let due = Due::Task(TaskDue::Held(generation, polled));
                    return self.common.set_timer(at, ticket, due);
                }
            }
        }
        drop(state);
        self.cancel(ticket, reason);
    }

    /// HELD → QUEUED: the pause before the task's next attempt is over.
    fn end_hold(&self, mut state: MutexGuard<'_, QueueState>, ticket: Ticket) {
        let index = ticket.record as usize;
        let entry = &state.entries[index];
        let waits = entry.held && !entry.is_between_attempts();
        let Some(pending) = entry.pending.as_ref().filter(|_| waits) else { return };
        let (attempt, options) = (Attempt(pending.attempts), pending.options);
        if options.is_decided_elsewhere() {
            return self.end_released(state, index);
        }
        state.describe_again(index, pending.call());
        state.enqueue(index, usize::from(options.priority));
        let sleeper = state.sleeper(self.next_start(), self.common.searchers);
        drop(state);
        self.time_attempt(ticket, options.run_limit(), attempt, monotonic_ns());
        self.common.ensure_watched();
        sleeper.into_iter().for_each(|slot| self.ring(slot));
    }

    /// HELD → FREE: nothing is left of an attempt that ran out of time, and another machine decides
    /// what follows.
    fn end_released(&self, mut state: MutexGuard<'_, QueueState>, index: usize) {
        let mut deliveries = Deliveries::default();
        if let Some(pending) = state.take_pending(index) {
            let limit = pending.options.run_limit().unwrap_or_default();
            self.free(&mut state, index);
            let error = TaskError::TimedOut { limit, started: true };
            deliveries.push_error(&mut state.receivers, &pending, error);
        }
        self.note_pending(&state);
        let woken = state.room.take(1);
        drop(state);
        woken.into_iter().for_each(std::task::Waker::wake);
        self.deliver(&mut deliveries);
    }

    /// The start deadline has passed and the task is claimed but not started. Only a few
    /// instructions lie between: a worker that has not done them after the grace period is stopped,
    /// by a signal or a debugger, and would hold the task for as long as that lasts.
    fn await_start(&self, ticket: Ticket, generation: Generation, now: u64) {
        let at = now.saturating_add(self.common.grace_ns);
        self.common.set_timer(at, ticket, Due::Worker { generation, expects: Expects::Start });
        // A task that is back in its queue by then has missed its start deadline.
        self.common.set_timer(at, ticket, Due::Task(TaskDue::QueueTtl));
    }

    /// Sets the timer of an attempt that was queued again.
    pub(super) fn time_attempt(
        &self,
        ticket: Ticket,
        limit: Option<Duration>,
        attempt: Attempt,
        now: u64,
    ) {
        if let Some(limit) = limit {
            let due = Due::Task(TaskDue::Timeout(attempt));
            self.common.set_timer(after(now, limit), ticket, due);
        }
    }

    /// Returns whether `ticket`'s task has no outcome yet.
    pub(crate) fn is_pending(&self, ticket: Ticket) -> bool {
        self.lock().pending(ticket).is_some()
    }

    /// Returns how far the task says that it is; `None` if it has not said so or does not run.
    pub(crate) fn progress(&self, ticket: Ticket) -> Option<u64> {
        let state = self.lock();
        state.pending(ticket)?;
        let index = ticket.record as usize;
        let record = &state.control.records()[index];
        let word = record.state();
        let runs = state.entries[index].knows(word) && word.state() == Some(State::Running);
        if runs { record.progress(word.generation()) } else { None }
    }

    /// Cancels the task in its record. Returns `None` if it was over already, else the worker that
    /// has the task and must drop it, if one has.
    fn cancel_pending(
        &self,
        state: &mut QueueState,
        ticket: Ticket,
        reason: Reason,
        deliveries: &mut Deliveries,
    ) -> Option<Option<Owner>> {
        state.pending(ticket)?;
        let index = ticket.record as usize;
        let entry = &mut state.entries[index];
        let generation = entry.generation;
        if entry.is_called_off() {
            // Between two attempts, of which the last may still be its worker's.
            if !reason.is_cancel() || matches!(reason, Reason::CancelQueued) {
                return None;
            }
            let held = entry.held;
            entry.standing = Standing::Plain;
            let pending = state.take_pending(index)?;
            if held {
                self.free(state, index);
            }
            deliveries.push_error(&mut state.receivers, &pending, TaskError::Cancelled);
            return Some(None);
        }
        let record = &state.control.records()[index];
        let cancelled = match reason {
            Reason::CancelQueued => record.cancel_queued(generation),
            _ => record.cancel(generation),
        };
        let owner = match cancelled {
            CancelResult::BeforeClaim => None,
            CancelResult::WhileOwned(owner) => Some(owner),
            // DONE: the real outcome is on its way, or damage that the audit will find. Or a worker
            // has what only the queue was to lose.
            CancelResult::TooLate(_) => return None,
        };
        if owner.is_some()
            && let Some(grace_ns) = self.grace_of(reason)
        {
            let at = monotonic_ns().saturating_add(grace_ns);
            let generation = Generation(generation);
            let due = Due::Worker { generation, expects: Expects::Drop };
            self.common.set_timer(at, ticket, due);
        }
        let pending = state.entries[index].pending.as_ref()?;
        let mut error = self.error_of(state, reason, &pending.options, owner.is_some());
        if owner.is_some() && !reason.is_cancel() {
            let counts = reason == Reason::Deadline;
            // A task that is blocked again and again gets a worker of its own.
            let alone = !counts && pending.spared > 0;
            let end = End { error, counts, alone, at_once: false };
            match self.end_attempt(state, index, Whose::Worker, end, deliveries) {
                Some(over) => error = over,
                None => return Some(owner),
            }
        }
        let pending = state.take_pending(index)?;
        if owner.is_none() {
            self.free(state, index);
        }
        deliveries.push_error(&mut state.receivers, &pending, error);
        Some(owner)
    }

    /// Returns how long a worker may take to drop a task that is cancelled, before it is killed.
    fn grace_of(&self, reason: Reason) -> Option<u64> {
        match reason {
            Reason::Cancel | Reason::CancelQueued => None,
            Reason::CancelWithin(grace_ns) => Some(grace_ns),
            Reason::Deadline | Reason::Blocked(_) => Some(self.common.grace_ns),
        }
    }

    fn error_of(
        &self,
        state: &QueueState,
        reason: Reason,
        options: &TaskOptions,
        started: bool,
    ) -> TaskError {
        let limit = if started { options.run_limit() } else { options.wait_limit() };
        let limit = limit.unwrap_or_default();
        match reason {
            Reason::Cancel | Reason::CancelQueued | Reason::CancelWithin(_) => TaskError::Cancelled,
            Reason::Deadline => TaskError::TimedOut { limit, started },
            Reason::Blocked(other) => {
                // Its own outcome may be delivered; the record still says what it is.
                let call = state.control.records()[other as usize].call();
                let pending = state.entries[other as usize].pending.as_ref();
                let by = pending.map_or(u64::from(call.task()), |pending| pending.task);
                let function = self.common.inputs.function_name(call.function).to_owned();
                TaskError::NeighbourBlocked(Box::new(Blocked { limit, by, function }))
            }
        }
    }
}

impl Reason {
    /// Returns whether the task's owner wants it no more.
    fn is_cancel(self) -> bool {
        matches!(self, Self::Cancel | Self::CancelQueued | Self::CancelWithin(_))
    }
}

impl QueueState {
    /// Returns the host's entry of `ticket`'s task, if the task has no outcome yet.
    fn pending(&self, ticket: Ticket) -> Option<&Pending> {
        let pending = self.entries.get(ticket.record as usize)?.pending.as_ref()?;
        (pending.task == ticket.task).then_some(pending)
    }

    /// Returns the turn that `owner`'s worker is at, and the record of it, if that is another task
    /// than record `index`'s that the worker has.
    fn polled_beside(&self, index: usize, owner: Owner) -> Option<(Polled, u32)> {
        let slot = owner.slot();
        if slot >= self.control.shape().slots as usize {
            return None;
        }
        let polled = self.control.report(slot).polled();
        let other = polled.record().filter(|&other| other as usize != index)?;
        let record = self.control.records().get(other as usize)?;
        // A worker's word: believed only where it names a task of that worker.
        let word = record.state();
        let has_it = matches!(word.state(), Some(State::Running | State::Cancelling));
        (has_it && word.owner() == owner).then_some((polled, other))
    }
}
