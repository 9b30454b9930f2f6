//! Calling tasks off: by their owner, by deadline, and what comes due later.

use crate::sys::clock::monotonic_ns;
use crate::table::{CancelResult, Owner, State};
use crate::task::TaskError;

use super::delivery::Deliveries;
use super::entry::{Entry, Ticket};
use super::submit::after;
use super::timers::Due;
use super::{HostQueue, QueueState};

/// Why a task is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its owner wants it no more.
    Cancel,
    /// Its time is up.
    Deadline,
}

/// What the supervisor must do about a timer that came due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Nothing.
    Nothing,
    /// Kill the worker in that slot: it did not drop a task, or did not begin one that it had
    /// claimed, within the grace period.
    Kill(Owner),
}

impl HostQueue {
    /// Calls the task off and delivers its outcome. False if it was over already.
    pub(crate) fn cancel(&self, ticket: Ticket, reason: Reason) -> bool {
        let mut state = self.lock();
        let mut deliveries = Deliveries::default();
        let Some(owner) = self.call_off(&mut state, ticket, reason, &mut deliveries) else {
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

    /// Returns where `task` is, if it is pending in this queue: by a search through the table.
    pub(crate) fn find(&self, task: u64) -> Option<Ticket> {
        let state = self.lock();
        let at = |entry: &Entry| entry.pending.as_ref().is_some_and(|known| known.task == task);
        let record = state.entries.iter().position(at)? as u32;
        Some(Ticket { queue: self.index, record, task })
    }

    /// Decides what follows from a timer of the task that came due.
    pub(crate) fn expire(&self, ticket: Ticket, due: Due) -> Expired {
        let mut state = self.lock();
        let index = ticket.record as usize;
        if let Due::Grace(generation) | Due::Start(generation) = due {
            // Only the word tells whether the worker let go, or went on.
            let stands = match due {
                Due::Grace(_) => State::Cancelling,
                _ => State::Claimed,
            };
            let word = state.control.records()[index].state();
            let stuck = state.entries[index].knows(word)
                && word.generation() == generation
                && word.state() == Some(stands);
            return if stuck { Expired::Kill(word.owner()) } else { Expired::Nothing };
        }
        if !state.has_task(ticket) {
            return Expired::Nothing;
        }
        let word = state.control.records()[index].state();
        let (attempts, options) = {
            let pending = state.entries[index].pending.as_ref().expect("has_task");
            (pending.attempts, pending.options)
        };
        let now = monotonic_ns();
        match due {
            Due::Grace(_) | Due::Start(_) => unreachable!("handled above"),
            Due::Overdue(generation) => {
                // Queued again meanwhile, it has a timer of its own.
                let has_it = matches!(word.state(), Some(State::Claimed | State::Running));
                if word.generation() != generation || !has_it {
                    return Expired::Nothing;
                }
            }
            Due::Retry => {
                if state.entries[index].held {
                    let class = usize::from(options.priority);
                    state.enqueue(index, class);
                    let sleeper = state.sleeper(self.next_start(), self.common.searchers);
                    drop(state);
                    self.time_attempt(ticket, options.run_limit(), attempts, now);
                    self.common.ensure_watched();
                    sleeper.into_iter().for_each(|slot| self.ring(slot));
                }
                return Expired::Nothing;
            }
            Due::QueueTtl => {
                // Started, or has been before: the limit was for the first wait only.
                if attempts > 1 || !matches!(word.state(), Some(State::Queued | State::Claimed)) {
                    return Expired::Nothing;
                }
                if word.state() == Some(State::Claimed) {
                    drop(state);
                    self.await_start(ticket, word.generation(), now);
                    return Expired::Nothing;
                }
            }
            Due::Timeout(attempt) => {
                if attempt != attempts {
                    return Expired::Nothing;
                }
                let limit = options.run_limit().unwrap_or_default();
                let overdue = Due::Overdue(state.entries[index].generation);
                // A worker that moves its start, or never starts, gains one limit and no more.
                let (again, due) = match word.state() {
                    Some(State::Running) => {
                        let started = state.control.records()[index].started().min(now);
                        (after(started, limit), overdue)
                    }
                    Some(State::Claimed) => (after(now, limit), overdue),
                    // It has not begun; the limit is counted from the start.
                    Some(State::Queued) => (after(now, limit), due),
                    _ => return Expired::Nothing,
                };
                if again > now {
                    drop(state);
                    if self.common.timers.add(again, ticket, due) {
                        self.common.call_supervisor();
                    }
                    return Expired::Nothing;
                }
            }
        }
        drop(state);
        self.cancel(ticket, Reason::Deadline);
        Expired::Nothing
    }

    /// A task that must have been started by now is claimed. From there to its start are a few
    /// instructions: a worker that has not done them in the grace period is stopped, and would
    /// hold the task for as long as that lasts.
    fn await_start(&self, ticket: Ticket, generation: u32, now: u64) {
        let at = now.saturating_add(self.common.grace_ns);
        let timers = &self.common.timers;
        let first = timers.add(at, ticket, Due::Start(generation));
        // Should the task be queued again then, it is late.
        if timers.add(at, ticket, Due::QueueTtl) || first {
            self.common.call_supervisor();
        }
    }

    /// Sets the timer of an attempt that was queued again.
    pub(super) fn time_attempt(
        &self,
        ticket: Ticket,
        limit: Option<std::time::Duration>,
        attempt: u32,
        now: u64,
    ) {
        if let Some(limit) = limit
            && self.common.timers.add(after(now, limit), ticket, Due::Timeout(attempt))
        {
            self.common.call_supervisor();
        }
    }

    /// Returns whether `ticket`'s task has no outcome yet.
    pub(crate) fn is_pending(&self, ticket: Ticket) -> bool {
        self.lock().has_task(ticket)
    }

    /// Returns `None` if it was over already, else the worker that has it and must drop it.
    fn call_off(
        &self,
        state: &mut QueueState,
        ticket: Ticket,
        reason: Reason,
        deliveries: &mut Deliveries,
    ) -> Option<Option<Owner>> {
        if !state.has_task(ticket) {
            return None;
        }
        let index = ticket.record as usize;
        let generation = state.entries[index].generation;
        let owner = if state.entries[index].held {
            let pending = state.take_pending(index).expect("has_task");
            self.free(state, index);
            deliveries.push_error(&mut state.receivers, &pending, reason.error(None, true));
            return Some(None);
        } else {
            match state.control.records()[index].cancel(generation) {
                CancelResult::BeforeClaim => None,
                CancelResult::WhileOwned(owner) => Some(owner),
                // DONE: the real outcome is on its way, or damage that the audit will find.
                CancelResult::TooLate(_) => return None,
            }
        };
        let pending = state.take_pending(index).expect("has_task");
        let options = pending.options;
        if owner.is_none() {
            self.free(state, index);
        } else if reason == Reason::Deadline {
            let at = monotonic_ns().saturating_add(self.common.grace_ns);
            if self.common.timers.add(at, ticket, Due::Grace(generation)) {
                self.common.call_supervisor();
            }
        }
        let error = reason.error(Some(options), owner.is_some());
        deliveries.push_error(&mut state.receivers, &pending, error);
        Some(owner)
    }
}

impl Reason {
    fn error(self, options: Option<crate::task::TaskOptions>, started: bool) -> TaskError {
        match self {
            Self::Cancel => TaskError::Cancelled,
            Self::Deadline => {
                let options = options.unwrap_or_default();
                let limit = if started { options.run_limit() } else { options.wait_limit() };
                TaskError::TimedOut { limit: limit.unwrap_or_default(), started }
            }
        }
    }
}

impl QueueState {
    fn has_task(&self, ticket: Ticket) -> bool {
        self.entries
            .get(ticket.record as usize)
            .and_then(|entry| entry.pending.as_ref())
            .is_some_and(|pending| pending.task == ticket.task)
    }
}
