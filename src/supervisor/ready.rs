//! Futures that wait until every worker can take tasks, or for the end of the pool.
#![forbid(unsafe_code)]

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sys::clock::monotonic_ns;

use super::Shared;
use super::shared::{Lifecycle, Stage};

impl Shared {
    /// Takes note of how many workers can take tasks now.
    pub(super) fn set_ready(&self, workers: usize) {
        if self.ready.swap(workers, Relaxed) != workers && self.are_ready() {
            self.announce(self.life());
        }
    }

    fn are_ready(&self) -> bool {
        self.ready.load(Relaxed) >= self.plan.processes as usize
    }

    fn readiness(&self, life: &Lifecycle) -> Option<Result<()>> {
        match &life.reason {
            Some(reason) => Some(Err(Error::Failed(reason.clone()))),
            None if life.stage > Stage::Open => Some(Err(Error::Closed)),
            None => self.are_ready().then_some(Ok(())),
        }
    }

    /// Waits until every worker can take tasks, or never will.
    pub(crate) async fn readied(&self) -> Result<()> {
        let mut entry = Entry::of(self);
        std::future::poll_fn(|context| {
            let mut life = self.life();
            if let Some(ready) = self.readiness(&life) {
                return Poll::Ready(ready);
            }
            entry.wait(&mut life, context.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits until every worker can take tasks, or `until` then; `None` if they cannot yet.
    pub(crate) fn wait_ready(&self, until: Option<Instant>) -> Option<Result<()>> {
        let mut life = self.life();
        loop {
            if let Some(ready) = self.readiness(&life) {
                return Some(ready);
            }
            let Some(until) = until else {
                life = self.changed.wait(life).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.checked_duration_since(Instant::now())?;
            let waited = self.changed.wait_timeout(life, left);
            life = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns how many workers can take tasks.
    pub(crate) fn ready_workers(&self) -> usize {
        self.ready.load(Relaxed)
    }

    /// Waits for the pool's end, at most `limit`; whether it has come. False in a forked child.
    pub(crate) async fn ended_within(&self, limit: Option<Duration>) -> bool {
        if !self.is_owner() {
            return false;
        }
        let deadline = limit.map_or(u64::MAX, |limit| {
            monotonic_ns().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX))
        });
        if limit.is_some() {
            // The supervisor keeps the time, so that this works without a runtime, too.
            self.wake_all_at(deadline);
        }
        let mut entry = Entry::of(self);
        let ended = std::future::poll_fn(|context| {
            let mut life = self.life();
            let ended = life.stage == Stage::Ended;
            if !ended {
                entry.wait(&mut life, context.waker());
            }
            let over = ended || limit.is_some() && monotonic_ns() >= deadline;
            if over { Poll::Ready(ended) } else { Poll::Pending }
        })
        .await;
        if ended {
            // Blocks for microseconds: all that the thread still does is to end.
            self.join_thread();
        }
        ended
    }
}

/// The place of one future among those that wait: a program that waits for a moment again and again
/// leaves nothing behind.
struct Entry<'s> {
    shared: &'s Shared,
    number: Option<u64>,
}

impl<'s> Entry<'s> {
    fn of(shared: &'s Shared) -> Self {
        Self { shared, number: None }
    }

    /// Has `waker` woken at the next change; `life` is that of the entry's pool.
    fn wait(&mut self, life: &mut Lifecycle, waker: &Waker) {
        self.number = Some(life.waiting.keep(self.number, waker));
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // In a forked child a thread that is not there may hold the lock for ever.
        let Some(number) = self.number.filter(|_| self.shared.is_owner()) else { return };
        let waker = self.shared.life().waiting.remove(number);
        // The last handle of a task drops what the task has, and that may be this pool.
        drop(waker);
    }
}
