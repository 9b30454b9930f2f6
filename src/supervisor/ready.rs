//! The moment at which every worker can take tasks.
#![forbid(unsafe_code)]

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Instant;

use crate::error::{Error, Result};

use super::Shared;
use super::shared::{Lifecycle, Stage};
use super::wakers::Entry;

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
}
