//! A queue whose control region is damaged goes on with a new one.
//!
//! All its workers are dead and recovered, so only the host has an interest in the old region.
//! Rings and lanes continue at the positions where they were: what the host remembers of positions
//! stays true.

use std::sync::Arc;
use std::task::Waker;

use crate::control::Control;
use crate::table::{Call, State};
use crate::task::TaskError;

use super::delivery::Deliveries;
use super::{HostQueue, QueueState, lock};

impl HostQueue {
    /// Puts `control` in the place of a region in which `what` was found.
    ///
    /// Tasks that no worker had claimed are queued again. It is unknown whether the others ran:
    /// they are retried where the caller allowed it, and end with [`TaskError::Corrupt`] where not.
    pub(crate) fn rebuild(&self, control: Control, what: &str) {
        let control = Arc::new(control);
        let mut deliveries = Deliveries::default();
        let mut lanes = lock(&self.lanes);
        for lane in &mut lanes.lanes {
            lane.arena = None;
            lane.backlog.clear();
        }
        let mut state = self.lock();
        let old = std::mem::replace(&mut state.control, Arc::clone(&control));
        lanes.control = Arc::clone(&control);
        for class in 0..control.classes() {
            control.ring(class).start_at(state.tails[class]);
        }
        state.heads = state.tails;
        for index in 0..state.entries.len() {
            if state.entries[index].in_use {
                let word = old.records()[index].state();
                let untouched =
                    state.entries[index].knows(word) && word.state() == Some(State::Queued);
                self.carry_over(&mut state, index, untouched, what, &mut deliveries);
            }
        }
        let QueueState { deferred, free, .. } = &mut *state;
        free.append(deferred);
        self.note_pending(&state);
        let woken = state.take_waiting();
        drop(state);
        self.release(lanes);
        // Waiting threads armed the old region.
        control.host_flag().arm();
        woken.into_iter().for_each(Waker::wake);
        self.deliver(&mut deliveries);
    }

    /// What becomes of a task of which it is unknown whether it ran: damage.
    pub(super) fn carry_over(
        &self,
        state: &mut QueueState,
        index: usize,
        untouched: bool,
        what: &str,
        deliveries: &mut Deliveries,
    ) {
        if state.entries[index].held {
            let pending = state.entries[index].pending.as_ref();
            let (function, task) = pending.map_or((0, 0), |p| (p.function, p.task));
            state.describe_again(index, function, Call::tag(task));
            state.control.records()[index].hold(state.entries[index].generation);
            return;
        }
        let Some(mut pending) = state.take_pending(index) else {
            // Called off, and its worker is gone.
            return self.free_of_dead(state, index);
        };
        if untouched {
            self.common.counters.requeued.add(1);
        } else if pending.failures < pending.options.retries {
            pending.failures += 1;
            pending.attempts += 1;
            pending.story.push(format!("shared memory was damaged: {what}"));
            self.common.counters.retries.add(1);
        } else {
            self.free_of_dead(state, index);
            let error = TaskError::Corrupt(what.to_owned());
            deliveries.push_error(&mut state.receivers, &pending, error);
            return;
        }
        self.put_back(state, index, pending, 0);
    }
}
