//! The outcomes that are here and the tasks that a caller waits for, under a pool's one lock.

use std::collections::VecDeque;

use super::boundary::Failure;
use super::by_task::ByTask;
use super::outcome::{Arrived, CompleteFn};
use super::receivers::Receivers;
use super::status::AIOPOOL_ERR_CLOSED;
use crate::supervisor::Shared;
use crate::task::Outcome;

/// What has arrived in an inbox.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Outcomes for any thread that receives.
    pub(super) ready: VecDeque<Arrived>,
    /// Tasks that were asked for by ticket, and their outcomes once those have come.
    pub(super) kept: ByTask<Option<Arrived>>,
    /// Those of `kept` that have come.
    pub(super) kept_arrived: usize,
    /// What the outcomes of tasks are to be handed to, until they have come.
    pub(super) calls: ByTask<CompleteFn>,
    /// Those of `ready` that are handed to a function.
    pub(super) called: usize,
    /// A submitter was refused since there were too many, and an event loop is to be told when some
    /// were received.
    pub(super) wants_room: bool,
    /// The threads that take outcomes out of here.
    pub(super) receivers: Receivers,
}

impl Arrivals {
    /// Returns how many outcomes wait to be received.
    pub(super) fn unreceived(&self) -> usize {
        self.ready.len() + self.kept_arrived
    }

    /// Moves the outcome of `task` to those that are kept. False if it has not come, or goes to a
    /// function.
    pub(super) fn move_to_kept(&mut self, task: u64) -> bool {
        let is_it = |arrived: &Arrived| arrived.task == task && arrived.complete.is_none();
        let Some(at) = self.ready.iter().position(is_it) else {
            return false;
        };
        let arrived = self.ready.remove(at);
        self.kept_arrived += 1;
        self.kept.insert(task, arrived);
        true
    }

    /// Returns whether no outcome goes elsewhere than to whatever thread receives next.
    #[inline]
    pub(super) fn are_for_any(&self) -> bool {
        self.calls.is_empty() && self.kept.is_empty()
    }

    /// Takes in the outcome of `task`. Returns whether it is for any caller.
    #[inline(always)] // once a task: as a call, `outcome` is moved through memory
    pub(super) fn arrive(&mut self, task: u64, user_data: u64, outcome: Outcome) -> bool {
        let complete = if self.calls.is_empty() { None } else { self.calls.remove(&task) };
        let arrived = Arrived { outcome, task, user_data, complete };
        if !self.kept.is_empty()
            && let Some(place) = self.kept.get_mut(&task)
        {
            *place = Some(arrived);
            self.kept_arrived += 1;
            return false;
        }
        self.called += usize::from(complete.is_some());
        self.ready.push_back(arrived);
        true
    }
}

/// Returns what a closed pool answers from which everything was received.
pub(super) fn no_more() -> Failure {
    let text = "the pool is closed and every outcome was received";
    Failure::new(AIOPOOL_ERR_CLOSED, text)
}

/// Returns whether outcomes are on their way here, of tasks that are not pending any more.
pub(super) fn is_delivering(shared: &Shared) -> bool {
    shared.queues.iter().any(|queue| queue.is_delivering())
}

/// Returns whether every task is over and its outcome where it is received.
pub(super) fn is_idle(shared: &Shared) -> bool {
    // In this order: an outcome is on its way before its task is not pending any more.
    shared.pending() == 0 && !is_delivering(shared)
}
