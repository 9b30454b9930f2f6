//! Submitters that wait for a free record.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::task::Waker;

/// The waiting submitters of a queue, first come first woken.
#[derive(Debug, Default)]
pub(super) struct Room {
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

impl Room {
    /// Has `waker` woken when there may be room; `known` is the caller's last number.
    pub(super) fn wait(&mut self, known: Option<u64>, waker: &Waker) -> u64 {
        let number = known.unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        self.waiting.insert(number, waker.clone());
        number
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The caller waits no more. True if it had been woken: the wake-up is for the next one then.
    pub(super) fn leave(&mut self, number: u64) -> bool {
        self.waiting.remove(&number).is_none()
    }

    /// The first `count` submitters, to be woken outside the lock.
    pub(super) fn take(&mut self, count: usize) -> Vec<Waker> {
        let mut woken = Vec::new();
        while woken.len() < count
            && let Some((_, waker)) = self.waiting.pop_first()
        {
            woken.push(waker);
        }
        woken
    }

    /// All of them.
    pub(super) fn take_all(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}
