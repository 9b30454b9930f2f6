//! The outcomes that are here and the tasks that a caller waits for, under a pool's one lock.

use std::collections::VecDeque;

use super::by_task::ByTask;
use super::outcome::{Arrived, CompleteFn, Spare};
use super::receivers::Receivers;
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
    spare: Spare,
    /// The threads that take outcomes out of here.
    pub(super) receivers: Receivers,
}

impl Arrivals {
    /// Returns how many outcomes wait to be received.
    pub(super) fn unreceived(&self) -> usize {
        self.ready.len() + self.kept_arrived
    }

    /// Moves the outcome of `task` to those that are kept. False if it has not come.
    pub(super) fn move_to_kept(&mut self, task: u64) -> bool {
        let Some(at) = self.ready.iter().position(|arrived| arrived.task() == task) else {
            return false;
        };
        let arrived = self.ready.remove(at);
        self.kept_arrived += 1;
        self.kept.insert(task, arrived);
        true
    }

    /// Takes in the outcome of `task`. Returns whether it is for any caller.
    #[inline(always)] // once a task: as a call, `outcome` is moved through memory
    pub(super) fn arrive(
        &mut self,
        task: u64,
        user_data: u64,
        outcome: Outcome,
        generation: u32,
    ) -> bool {
        let complete = if self.calls.is_empty() { None } else { self.calls.remove(&task) };
        let ids = (task, user_data);
        let arrived = Arrived::new(&mut self.spare, ids, outcome, complete, generation);
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
