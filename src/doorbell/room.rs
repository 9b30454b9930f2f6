//! Whether a queue takes tasks, and the submitters that wait until it has a free record for theirs.
//!
//! The host's own, under the queue's mutex. A submitter tries, takes a place, and tries once more;
//! then a thread that frees a record or closes the queue wakes it.

use std::collections::BTreeMap;
use std::task::Waker;

/// The waiting submitters of a queue, first come first woken.
#[derive(Debug, Default)]
pub(crate) struct Room {
    waiting: BTreeMap<u64, Waker>,
    next: u64,
    closed: bool,
}

impl Room {
    /// Has `waker` woken when there may be room; `known` is the caller's last number. The caller
    /// tries once more after this.
    pub(crate) fn wait(&mut self, known: Option<u64>, waker: &Waker) -> u64 {
        let number = known.unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        self.waiting.insert(number, waker.clone());
        number
    }

    /// Returns whether no submitter waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Leaves the line. Returns true if the caller had been woken: the wake-up is then for the next
    /// one.
    pub(crate) fn leave(&mut self, number: u64) -> bool {
        self.waiting.remove(&number).is_none()
    }

    /// Returns the first `count` submitters, to be woken outside the lock.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Waker> {
        let mut woken = Vec::new();
        while woken.len() < count
            && let Some((_, waker)) = self.waiting.pop_first()
        {
            woken.push(waker);
        }
        woken
    }

    /// Closes the queue. Returns all waiters, to be woken outside the lock.
    pub(crate) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    /// Returns whether the queue takes no more tasks.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}
