//! Where the outcomes of several tasks arrive that one caller waits for.

use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use crate::queue::{Delivery, Receiver};
use crate::sync::lock;
use crate::task::Outcome;

use super::one_shot;

/// A list of outcomes with their tokens, and the waker of the caller that waits for them.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Arrived>);

#[derive(Debug, Default)]
struct Arrived {
    outcomes: Vec<Delivery>,
    waker: Option<Waker>,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        lock(&self.0)
    }

    /// True if there was no waker before.
    pub(super) fn set_waker(&self, waker: &Waker) -> bool {
        one_shot::set(&mut self.lock().waker, waker)
    }

    /// Forgets the waker. Returns true if there was one.
    pub(super) fn clear_waker(&self) -> bool {
        self.lock().waker.take().is_some()
    }

    /// Changes what arrived for `empty`, a list without anything in it.
    pub(super) fn take(&self, empty: &mut Vec<Delivery>) {
        std::mem::swap(empty, &mut self.lock().outcomes);
    }
}

impl Receiver for Arrivals {
    fn deliver(&self, token: u64, outcome: Outcome) -> bool {
        self.deliver_all(&mut vec![Delivery { outcome, task: 0, token }]) > 0
    }

    fn deliver_all(&self, all: &mut Vec<Delivery>) -> usize {
        let mut arrived = self.lock();
        if arrived.outcomes.is_empty() {
            std::mem::swap(&mut arrived.outcomes, all);
        } else {
            arrived.outcomes.append(all);
        }
        let waker = arrived.waker.take();
        drop(arrived);
        let woke = usize::from(waker.is_some());
        waker.into_iter().for_each(Waker::wake);
        woke
    }
}
