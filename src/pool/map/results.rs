//! The receiving half of a `map`: tasks in flight, and results that were not given yet.

use std::collections::VecDeque;

use slab::Slab;

use crate::queue::Ticket;
use crate::task::{Outcome, TaskError};

/// The tasks of a map and their results, in the order of the items or as they end.
#[derive(Default)]
pub(super) struct Results {
    /// Tasks in flight, by the token that their outcome comes with.
    tasks: Slab<MapTask>,
    /// In order: a place for each item from number `first` on, filled as outcomes come.
    places: VecDeque<Option<Outcome>>,
    first: u64,
    /// Outcomes to be given next whatever the order, each with the number of its item.
    completed: VecDeque<(u64, Outcome)>,
    /// The number of the item whose result was given last.
    given: u64,
    /// Results are given as their tasks end.
    pub(super) as_completed: bool,
}

struct MapTask {
    /// `None` until it is submitted.
    ticket: Option<Ticket>,
    /// The number of its item.
    item: u64,
}

// Called once a task, from code that is compiled with the caller's types.
impl Results {
    /// Gives results as their tasks end from here on, first those that are there already.
    pub(super) fn give_as_completed(&mut self) {
        self.as_completed = true;
        let there = self.places.drain(..).zip(self.first..);
        self.completed.extend(there.filter_map(|(outcome, item)| Some((item, outcome?))));
    }

    /// Takes in the next item, whose task is about to be submitted. Returns the task's token.
    #[inline]
    pub(super) fn expect(&mut self, item: u64) -> u64 {
        if !self.as_completed {
            self.places.push_back(None);
        }
        self.tasks.insert(MapTask { ticket: None, item }) as u64
    }

    /// Notes that the task with `token` was submitted.
    #[inline]
    pub(super) fn submitted(&mut self, token: u64, ticket: Ticket) {
        self.tasks[token as usize].ticket = Some(ticket);
    }

    /// Gives the task with `token` its outcome. Without such a task, the outcome is dropped.
    #[inline]
    pub(super) fn settle(&mut self, token: u64, outcome: Outcome) {
        let Some(MapTask { item, .. }) = self.tasks.try_remove(token as usize) else { return };
        if self.as_completed {
            self.completed.push_back((item, outcome));
        } else if let Some(place) = self.places.get_mut((item - self.first) as usize) {
            *place = Some(outcome);
        }
    }

    /// Gives `item`, which has no task and never gets one, `error` as its result.
    pub(super) fn refuse(&mut self, item: u64, error: TaskError) {
        let outcome = Outcome::error(error, 0);
        if self.as_completed {
            self.completed.push_back((item, outcome));
        } else {
            self.places.push_back(Some(outcome));
        }
    }

    /// Takes the outcome that is to be given next, if it is there.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Outcome> {
        if let Some((item, outcome)) = self.completed.pop_front() {
            self.given = item;
            return Some(outcome);
        }
        if let Some(Some(_)) = self.places.front() {
            self.given = self.first;
            self.first += 1;
            return self.places.pop_front().flatten();
        }
        None
    }

    /// Returns the number of the item whose result was given last.
    #[inline]
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// Returns how many items were taken whose results were not given. In order, a slow item holds
    /// up what came after it: that counts, too.
    #[inline]
    pub(super) fn not_given(&self) -> usize {
        if self.as_completed { self.tasks.len() + self.completed.len() } else { self.places.len() }
    }

    /// Returns how many tasks have no outcome.
    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        self.tasks.len()
    }

    /// Forgets all tasks. Returns the tickets of those that were submitted.
    pub(super) fn forget_tasks(&mut self) -> Vec<Ticket> {
        self.tasks.drain().filter_map(|task| task.ticket).collect()
    }

    /// Gives the first item without a result `error`, in place of all results that were to come.
    pub(super) fn abandon(&mut self, error: TaskError) {
        let Some(item) = self.tasks.iter().map(|(_, task)| task.item).min() else { return };
        self.tasks.clear();
        self.places.clear();
        self.first = item;
        self.refuse(item, error);
    }
}
