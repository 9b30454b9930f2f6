//! Deadlines of tasks, kept for the supervisor.
//!
//! A timer names a task, not a record: one that comes due for a task that is over does nothing, so
//! no timer ever has to be removed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard};

use crate::control::Polled;
use crate::sync::lock;

use super::entry::Ticket;

/// The number of a task's attempt, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attempt(pub(crate) u32);

/// The generation of a record: one use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u32);

/// What comes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A time of a task whose outcome is not delivered yet.
    Task(TaskDue),
    /// The grace period of a worker that had to move its record on. If the record has not moved as
    /// `expects` says, the worker is stuck, whatever has become of the task.
    Worker { generation: Generation, expects: Expects },
}

/// What comes due for a pending task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TaskDue {
    /// The task must have been started by now.
    QueueTtl,
    /// This attempt must be over by now.
    Timeout(Attempt),
    /// This use of the record must be over by now: its limit was counted from the moment at which
    /// the host saw it with a worker, whatever the worker reports of its start.
    Overdue(Generation),
    /// The limit of this use of the record is over, and another task's future was being polled, at
    /// that turn: where it still is, that task holds the worker.
    Held(Generation, Polled),
    /// A HELD task is to be queued again.
    Retry,
}

/// What a worker must have done with its record by the end of a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Expects {
    /// Started the task that it had claimed.
    Start,
    /// Dropped the task that was cancelled by its deadline.
    Drop,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    at_ns: u64,
    due: Due,
    queue: u16,
    record: u32,
    task: u64,
}

/// All timers of a pool.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<BinaryHeap<Reverse<Timer>>>);

impl Timers {
    /// Adds a timer. Returns true if it is now the first to come due: the caller must then call the
    /// supervisor.
    #[must_use]
    pub(crate) fn add(&self, at_ns: u64, ticket: Ticket, due: Due) -> bool {
        let Ticket { queue, record, task } = ticket;
        let mut heap = self.lock();
        let first = heap.peek().is_none_or(|Reverse(timer)| at_ns < timer.at_ns);
        heap.push(Reverse(Timer { at_ns, due, queue, record, task }));
        first
    }

    /// When the first timer comes due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.lock().peek().map(|Reverse(timer)| timer.at_ns)
    }

    /// Takes a timer that is due at `now`.
    pub(crate) fn take_due(&self, now: u64) -> Option<(Ticket, Due)> {
        let mut heap = self.lock();
        if heap.peek().is_none_or(|Reverse(timer)| timer.at_ns > now) {
            return None;
        }
        let Reverse(Timer { due, queue, record, task, .. }) = heap.pop()?;
        Some((Ticket { queue, record, task }, due))
    }

    /// Removes the timers that would do nothing any more, as `matters` says, if there are more than
    /// `limit` timers.
    pub(crate) fn prune(&self, limit: usize, matters: impl Fn(Ticket, Due) -> bool) {
        let mut heap = self.lock();
        if heap.len() <= limit {
            return;
        }
        // `matters` takes a queue's lock, and timers are added by threads that hold it: not under
        // this one.
        let mut taken = std::mem::take(&mut *heap);
        drop(heap);
        taken.retain(|&Reverse(Timer { due, queue, record, task, .. })| {
            matters(Ticket { queue, record, task }, due)
        });
        self.lock().append(&mut taken);
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Timer>>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_due_in_order_and_the_first_is_announced() {
        let timers = Timers::default();
        let ticket = |task| Ticket { queue: 0, record: 0, task };
        assert!(timers.add(20, ticket(2), Due::Task(TaskDue::QueueTtl)));
        assert!(timers.add(10, ticket(1), Due::Task(TaskDue::Retry)));
        assert!(!timers.add(30, ticket(3), Due::Task(TaskDue::Timeout(Attempt(1)))));
        assert_eq!(timers.next(), Some(10));
        assert_eq!(timers.take_due(9), None);
        assert_eq!(timers.take_due(25).unwrap().0.task, 1);
        timers.prune(0, |ticket, _| ticket.task == 3);
        assert_eq!(timers.next(), Some(30));
    }
}
