//! A queue whose control region is damaged goes on with a new one.
//!
//! All its workers are dead and recovered, so only the host still uses the old region. Rings and
//! lanes continue at their old positions, so that those the host remembers stay valid.

use std::sync::Arc;
use std::task::Waker;

use crate::control::Control;
use crate::sync::lock;
use crate::table::State;

use super::delivery::Deliveries;
use super::{HostQueue, QueueState};

impl HostQueue {
    /// Replaces the control region, in which the damage `what` was found, by `control`.
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
}
