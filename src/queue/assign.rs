//! A task for one worker: the host claims it for that worker.
//!
//! `table/README.md` ("A task for one worker") has the rules. Only the supervisor comes here, since
//! it alone knows that the worker is not recovered yet.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::control::Control;
use crate::error::Result;
use crate::ring::place;
use crate::sync::lock;
use crate::sys::clock::monotonic_ns;
use crate::table::{Owner, Place, WorkerId};

use super::entry::{Pending, Ticket};
use super::submit::Submission;
use super::timers::Attempt;
use super::{HostQueue, QueueState};

impl HostQueue {
    /// Gives a task to the worker `to`, which is not recovered. The task was accepted before: that
    /// the queue was closed meanwhile is no matter.
    ///
    /// # Errors
    ///
    /// As [`try_submit`](Self::try_submit), except [`Error::Closed`](crate::Error::Closed).
    pub(crate) fn try_assign(&self, submission: Submission<'_>, to: WorkerId) -> Result<()> {
        let Submission { task, function, input, options, receiver, token } = submission;
        let (desc, block) = self.place_input(input)?;
        let now = monotonic_ns();
        let mut state = self.lock();
        let index = match state.take_accepted() {
            Ok(index) => index as usize,
            Err(error) => {
                drop(state);
                block.into_iter().for_each(|block| self.common.inputs.free(block));
                return Err(error);
            }
        };
        let receiver = state.receivers.join(receiver, 1);
        let mut pending = Pending::new(receiver, token, task, function, &options, now);
        (pending.alone, pending.assigned) = (false, true);
        let control = Arc::clone(&state.control);
        let inline = if desc.place == Place::Inline { input } else { &[] };
        control.records()[index].describe(pending.call(), desc.words(), inline);
        control.records()[index].set_queued(now);
        // As for a push: the private entry first, then the record, then the ring.
        state.set_pending(index, pending);
        let entry = &mut state.entries[index];
        entry.copy.set(desc.words(), inline);
        (entry.in_use, entry.input) = (true, block);
        state.assign(index, to);
        self.note_submitted(&state, 1);
        drop(state);
        let ticket = Ticket { queue: self.index, record: index as u32, task };
        self.time_attempt(ticket, options.run_limit(), Attempt(1), now);
        self.call_to_assigned(&control, to);
        Ok(())
    }

    /// Takes the tasks that wait for the next worker on a seat, with the number of the seat.
    pub(crate) fn take_unassigned(&self) -> Vec<(u32, Ticket)> {
        std::mem::take(&mut *lock(&self.unassigned))
    }

    /// Puts one of them back: its seat has no worker yet.
    pub(crate) fn keep_unassigned(&self, seat: u32, ticket: Ticket) {
        lock(&self.unassigned).push((seat, ticket));
    }

    /// Returns whether there are some.
    pub(crate) fn has_unassigned(&self) -> bool {
        !lock(&self.unassigned).is_empty()
    }

    /// Gives one of them to the worker `to`, which is not recovered, unless it was cancelled.
    pub(crate) fn reassign(&self, ticket: Ticket, to: WorkerId) {
        let mut state = self.lock();
        let index = ticket.record as usize;
        let entry = &state.entries[index];
        let waits = entry.held && !entry.is_between_attempts();
        let Some(pending) = entry.pending.as_ref().filter(|it| waits && it.task == ticket.task)
        else {
            return;
        };
        let (call, limit) = (pending.call(), pending.options.run_limit());
        state.describe_again(index, call);
        state.assign(index, to);
        let control = Arc::clone(&state.control);
        drop(state);
        self.time_attempt(ticket, limit, Attempt(1), monotonic_ns());
        self.call_to_assigned(&control, to);
    }

    fn call_to_assigned(&self, control: &Control, to: WorkerId) {
        // SeqCst: as before `ensure_watched` of a push.
        fence(Ordering::SeqCst);
        self.common.ensure_watched();
        let slot = usize::from(to.slot);
        control.attention(slot).assign();
        self.ring(slot);
    }
}

impl QueueState {
    /// FREE or HELD → CLAIMED by `to`, with a new generation, and a ring entry.
    fn assign(&mut self, index: usize, to: WorkerId) {
        let Some(pending) = &self.entries[index].pending else { return };
        let class = usize::from(pending.options.priority).min(self.control.classes() - 1);
        let position = self.tails[class];
        let entry = &mut self.entries[index];
        entry.generation = entry.generation.wrapping_add(1);
        entry.place = place(class, position);
        entry.held = false;
        self.control.records()[index].assign(entry.generation, entry.place, Owner::of(to));
        // An entry that no worker can claim: each use of a record has one, by which head says when
        // the record can be used again.
        self.control.ring(class).push(position, index as u32);
        self.tails[class] += 1;
    }
}
