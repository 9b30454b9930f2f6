//! Floor 7: the pool as its users see it.

#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]

mod abort;
mod arrivals;
mod batch;
mod broadcast;
mod builder;
mod confine;
mod deadline;
mod defaults;
mod function;
mod hooks;
mod logs;
mod map;
mod naming;
mod observed;
mod one_shot;
mod parts;
mod polled;
mod printed;
mod private;
mod proving;
mod ranges;
mod ready;
mod source;
mod star;
mod submit;
mod surroundings;
mod task;
mod task_set;
#[cfg(test)]
mod tests;
mod trace;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::supervisor::{Shared, Stage};
use crate::sync::lock;
use crate::task::TaskOptions;
use crate::view::{Snapshot, Stats};

pub use abort::AbortHandle;
pub use broadcast::Broadcast;
pub use builder::PoolBuilder;
pub use map::{Collect, Enumerated, Flat, Keyed, Map, Progress};
pub use parts::{Part, Parts};
pub use polled::{Arrived, NamedFunction, Output, PolledPool, PolledTask};
pub use printed::Printed;
pub use private::PrivateOutput;
pub use source::{FromStream, Source};
pub use star::{StarFn, TryStarFn};
pub use submit::Submit;
pub use task::Task;
pub use task_set::TaskSet;
pub use trace::Trace;

/// A pool of worker processes that run async functions.
///
/// A worker that dies costs the tasks that it was running; it is replaced, and all others go on.
/// Dropping the pool [terminates](Self::terminate) it and waits until nothing is left of it: idle
/// workers leave at once and in order, with their exit hook and what they printed; one that is
/// still busy after the grace period is killed.
///
/// A clone is another handle of the same pool, for another thread or task; the pool ends when the
/// last one is dropped.
///
/// ```
/// async fn double(x: u64) -> u64 {
///     x * 2
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = aiopool::Pool::builder().processes(2).build()?;
/// let doubled = aiopool::block_on(pool.map(double, 1..=3))?;
/// assert_eq!(doubled, [2, 4, 6]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) shared: Arc<Shared>,
    /// Ends the pool when the last handle is gone; tasks and maps hold `shared` alone.
    owner: Arc<Owner>,
}

/// What ends a pool when it is dropped.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    /// Of all of the pool's life, where `AIOPOOL_TRACE` asks for that.
    trace: Mutex<Option<Trace>>,
}

impl Pool {
    /// Creates a pool with the default options.
    ///
    /// # Errors
    ///
    /// As [`PoolBuilder::build`].
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// Makes the first handle of a pool that was started.
    fn own(shared: Arc<Shared>, trace: Option<Trace>) -> Self {
        let owner = Owner { shared: Arc::clone(&shared), trace: Mutex::new(trace) };
        Self { owner: Arc::new(owner), shared }
    }

    /// Options for a pool.
    #[must_use]
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    /// Returns the verbs below with `options` for the tasks they submit.
    #[must_use]
    pub fn with(&self, options: TaskOptions) -> Submit<'_> {
        Submit { shared: &self.shared, options }
    }

    /// Takes no more tasks; those that were submitted are finished. Then [`join`](Self::join).
    pub fn close(&self) {
        if self.shared.check_process().is_err() {
            return;
        }
        self.shared.queues.iter().for_each(|queue| queue.close());
        self.shared.advance(Stage::Closed);
    }

    /// Ends every task that is not over with
    /// [`TaskError::PoolClosed`](crate::TaskError::PoolClosed) and has the workers leave; those
    /// that do not within the grace period are killed.
    pub fn terminate(&self) {
        if self.shared.check_process().is_err() {
            return;
        }
        self.shared.queues.iter().for_each(|queue| queue.end_all(None));
        self.shared.advance(Stage::Terminating);
    }

    /// Closes the pool and waits until every task is over, at most `limit`. True if all are;
    /// those that are not go on, for [`join`](Self::join) or [`terminate`](Self::terminate).
    ///
    /// # Cancel safety
    ///
    /// The pool stays closed; otherwise giving up the wait changes nothing.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.close();
        if !self.shared.is_owner() {
            return false;
        }
        self.shared.ended_within(Some(limit)).await;
        let shared = &self.shared;
        shared.drain();
        shared.pending() == 0
    }

    /// [`drain`](Self::drain) for code that is not async.
    pub fn drain_blocking(&self, limit: Duration) -> bool {
        self.close();
        let shared = &self.shared;
        if !shared.is_owner() {
            return false;
        }
        shared.wait_ended(Some(limit));
        shared.drain();
        shared.pending() == 0
    }

    /// Waits until every task is over and every worker gone.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the pool was neither closed nor terminated; what ended the pool, if
    /// that was not its owner.
    ///
    /// # Cancel safety
    ///
    /// Giving up the wait changes nothing.
    pub async fn join(&self) -> Result<()> {
        self.check_closed()?;
        self.shared.ended_within(None).await;
        self.ended()
    }

    /// [`join`](Self::join) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_blocking(&self) -> Result<()> {
        self.check_closed()?;
        self.shared.wait_ended(None);
        self.ended()
    }

    /// Returns what the pool has counted; zeros in a forked child.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Returns the pool as it is now: its workers, queues, functions and last events. Takes some
    /// tens of microseconds, and for each worker some more; [`stats`](Self::stats) is cheaper.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Returns how many workers the pool keeps.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.shared.plan.processes as usize
    }

    /// Returns how many tasks a worker has in flight at most.
    #[must_use]
    pub fn child_concurrency(&self) -> usize {
        self.shared.plan.worker.child_concurrency as usize
    }

    /// Returns the process ids of the workers that are alive; none in a forked child.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<u32> {
        self.shared.workers().iter().map(|worker| worker.pid).collect()
    }

    /// Waits until nothing is left of a terminated pool.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when workers live that were killed.
    pub(crate) fn wait_gone(&self) -> Result<()> {
        wait_gone(&self.shared)
    }

    fn check_closed(&self) -> Result<()> {
        self.shared.check_process()?;
        if self.shared.stage() == Stage::Open {
            return Err(Error::Misuse(
                "the pool is still open: close or terminate it before you join it",
            ));
        }
        Ok(())
    }

    pub(crate) fn ended(&self) -> Result<()> {
        self.owner.end_trace();
        match self.shared.reason() {
            None => Ok(()),
            Some(reason) => Err(Error::Failed(reason)),
        }
    }
}

fn wait_gone(shared: &Shared) -> Result<()> {
    // A kill takes effect within milliseconds; the limit is for a machine that hangs.
    let limit = shared.plan.grace.saturating_add(Duration::from_secs(10));
    if shared.wait_ended(Some(limit)) {
        return Ok(());
    }
    Err(Error::TimedOut { what: "killed workers to be gone", limit })
}

impl Owner {
    fn end_trace(&self) {
        drop(lock(&self.trace).take());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let shared = &self.shared;
        if shared.check_process().is_err() {
            // A forked child of the host: the pool is the host's to end.
            return;
        }
        shared.queues.iter().for_each(|queue| queue.end_all(None));
        shared.advance(Stage::Terminating);
        if let Err(error) = wait_gone(shared) {
            tracing::error!(pool = shared.id, %error, "a dropped pool is not gone");
        }
        self.end_trace();
    }
}
