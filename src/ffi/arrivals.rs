//! The outcomes that are here and the tasks that a caller waits for, under a pool's one lock.

use std::collections::VecDeque;

use super::boundary::Failure;
use super::by_task::ByTask;
use super::outcome::CompleteFn;
use super::receivers::Receivers;
use super::status::AIOPOOL_ERR_CLOSED;
use crate::queue::Delivery;
use crate::supervisor::Shared;

/// What has arrived in an inbox.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Outcomes for any thread that receives.
    pub(super) ready: VecDeque<Delivery>,
    /// Outcomes to be handed to the functions of their calls, before any other is received.
    pub(super) called: VecDeque<(CompleteFn, Delivery)>,
    /// Tasks that were asked for by ticket, and their outcomes once those have come.
    pub(super) kept: ByTask<Option<Delivery>>,
    /// Those of `kept` that have come.
    pub(super) kept_arrived: usize,
    /// What the outcomes of tasks are to be handed to, until they have come; none for a task that
    /// may not be in a queue yet, whose outcome is for any thread.
    pub(super) calls: ByTask<Option<CompleteFn>>,
    /// A submitter was refused since there were too many, and an event loop is to be told when some
    /// were received.
    pub(super) wants_room: bool,
    /// The threads that take outcomes out of here.
    pub(super) receivers: Receivers,
}

impl Arrivals {
    /// Returns how many outcomes wait to be received.
    pub(super) fn unreceived(&self) -> usize {
        self.ready.len() + self.called.len() + self.kept_arrived
    }

    /// Moves the outcome of `task` to those that are kept. False if it has not come, or goes to a
    /// function.
    pub(super) fn move_to_kept(&mut self, task: u64) -> bool {
        let is_it = |arrived: &Delivery| arrived.task == task;
        let Some(at) = self.ready.iter().position(is_it) else {
            return false;
        };
        let arrived = self.ready.remove(at);
        self.kept_arrived += 1;
        self.kept.insert(task, arrived);
        true
    }

    /// Returns whether there is an outcome for the next thread that receives, or for a function.
    pub(super) fn has_any(&self) -> bool {
        !self.ready.is_empty() || !self.called.is_empty()
    }

    /// Takes in outcomes, and leaves `all` empty. Returns whether one is for any caller.
    pub(super) fn arrive(&mut self, all: &mut Vec<Delivery>) -> bool {
        if self.calls.is_empty() && self.kept.is_empty() {
            if self.ready.is_empty() {
                // Nothing is moved: each of the two gets the other's memory.
                let empty = std::mem::take(&mut self.ready);
                self.ready = std::mem::replace(all, empty.into()).into();
            } else {
                self.ready.extend(all.drain(..));
            }
            return true;
        }
        let before = self.kept_arrived;
        let count = all.len();
        all.drain(..).for_each(|arrived| self.arrive_by_task(arrived));
        self.kept_arrived - before < count
    }

    fn arrive_by_task(&mut self, arrived: Delivery) {
        if let Some(Some(function)) = self.calls.remove(&arrived.task) {
            self.called.push_back((function, arrived));
        } else if let Some(place) = self.kept.get_mut(&arrived.task) {
            *place = Some(arrived);
            self.kept_arrived += 1;
        } else {
            self.ready.push_back(arrived);
        }
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
