//! What becomes of a record whose worker is gone: its task is queued again, or it is freed.

use crate::ring::split_place;
use crate::sys::clock::monotonic_ns;
use crate::task::TaskError;

use super::delivery::Deliveries;
use super::entry::{Pending, Ticket};
use super::timers::Attempt;
use super::{HostQueue, QueueState};

impl HostQueue {
    /// Queues the task again. The order matters: first head past its old entry, then QUEUED, then
    /// the push.
    pub(super) fn put_back(&self, state: &mut QueueState, index: usize, pending: Pending) {
        state.help_past(index);
        let class = usize::from(pending.options.priority);
        let (limit, attempt) = (pending.options.run_limit(), Attempt(pending.attempts));
        let ticket = Ticket { queue: self.index, record: index as u32, task: pending.task };
        state.describe_again(index, pending.call());
        state.set_pending(index, pending);
        state.enqueue(index, class);
        self.time_attempt(ticket, limit, attempt, monotonic_ns());
    }

    /// Frees a record whose worker is gone, perhaps before it moved head: head goes past the
    /// record's entry first, so that the record is usable at once.
    pub(super) fn free_of_dead(&self, state: &mut QueueState, index: usize) {
        state.help_past(index);
        self.free(state, index);
    }

    /// Decides about a task whose record was damaged. Unless it is `untouched`, nothing tells
    /// whether it ran: it is retried where its caller allowed that, and ends with an error where
    /// not.
    pub(super) fn carry_over(
        &self,
        state: &mut QueueState,
        index: usize,
        untouched: bool,
        what: &str,
        deliveries: &mut Deliveries,
    ) {
        if state.entries[index].held {
            state.control.records()[index].hold(state.entries[index].generation);
            return;
        }
        if state.entries[index].is_between_attempts() {
            return self.let_go(state, index);
        }
        let Some(mut pending) = state.take_pending(index) else {
            // Cancelled, and its worker is gone.
            return self.free_of_dead(state, index);
        };
        if untouched {
            self.common.counters.requeued.add(1);
        } else if pending.failures < pending.options.retries {
            pending.failures += 1;
            pending.attempts += 1;
            pending.earlier.push(format!("shared memory was damaged: {what}"));
            self.common.counters.retries.add(1);
        } else {
            self.free_of_dead(state, index);
            let error = TaskError::Corrupt(what.to_owned());
            deliveries.push_error(&mut state.receivers, &pending, error);
            return;
        }
        self.put_back(state, index, pending);
    }
}

impl QueueState {
    /// Moves head past the record's ring entry, if it still stands there.
    pub(super) fn help_past(&self, index: usize) {
        let (class, position) = split_place(self.entries[index].place);
        let ring = self.control.ring(class);
        if ring.head() == position {
            ring.help(position);
        }
    }
}
