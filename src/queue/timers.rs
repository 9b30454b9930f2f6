//! Deadlines of tasks, kept for the supervisor.
//!
//! A timer names a task, not a record: one that comes due for a task that is over does nothing, so
//! no timer ever has to be removed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::Ticket;

/// What comes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A task must have been started by now.
    QueueTtl,
    /// An attempt must be over by now; the number says which.
    Timeout(u32),
    /// The use of the record with that generation was in a worker's hands when its limit was
    /// counted from there: it is over now, whatever the worker says of its start.
    Overdue(u32),
    /// The worker must have dropped a task that was cancelled by deadline.
    Grace(u32),
    /// The worker must have begun a task that it had claimed when its limit was up.
    Start(u32),
    /// A HELD task is queued again.
    Retry,
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

    /// Keeps only the timers of tasks that `alive` knows, when there are many more of them than
    /// there can be tasks.
    pub(crate) fn prune(&self, limit: usize, alive: impl Fn(Ticket) -> bool) {
        let mut heap = self.lock();
        if heap.len() > limit {
            heap.retain(|Reverse(Timer { queue, record, task, .. })| {
                alive(Ticket { queue: *queue, record: *record, task: *task })
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Timer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_due_in_order_and_the_first_is_announced() {
        let timers = Timers::default();
        let ticket = |task| Ticket { queue: 0, record: 0, task };
        assert!(timers.add(20, ticket(2), Due::QueueTtl));
        assert!(timers.add(10, ticket(1), Due::Retry));
        assert!(!timers.add(30, ticket(3), Due::Timeout(1)));
        assert_eq!(timers.next(), Some(10));
        assert_eq!(timers.take_due(9), None);
        assert_eq!(timers.take_due(25).unwrap().0.task, 1);
        timers.prune(0, |ticket| ticket.task == 3);
        assert_eq!(timers.next(), Some(30));
    }
}
