//! What a process and a worker have in common: name, start, end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pool::{Pool, PoolBuilder};
use crate::task::WorkerExit;

static NEXT_NAME: AtomicUsize = AtomicUsize::new(1);

/// Records of the one queue: the least there can be.
const CAPACITY: usize = 16;

/// A process to be, or one that was started; `H` is the handle of its task.
pub(super) struct Core<H> {
    pub(super) name: String,
    builder: PoolBuilder,
    /// In a mutex only so that references to a process can be sent to other threads.
    submit: Mutex<Option<Submit<H>>>,
    pub(super) started: Option<Started<H>>,
    /// Why it could not be started.
    refused: Option<String>,
}

type Submit<H> = Box<dyn FnOnce(&Pool) -> H + Send>;

pub(super) struct Started<H> {
    // Before the pool, which ends what the handle would call off.
    pub(super) handle: H,
    pub(super) pool: Pool,
}

impl<H> Core<H> {
    pub(super) fn new(kind: &str, submit: impl FnOnce(&Pool) -> H + Send + 'static) -> Self {
        Self {
            name: next_name(kind),
            builder: Pool::builder(),
            submit: Mutex::new(Some(Box::new(submit))),
            started: None,
            refused: None,
        }
    }

    pub(super) fn configure(&mut self, options: impl FnOnce(PoolBuilder) -> PoolBuilder) {
        self.builder = options(std::mem::take(&mut self.builder));
    }

    pub(super) fn start(&mut self) -> Result<()> {
        let Some(submit) = self.submit.get_mut().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return Err(Error::Misuse("the process was started before: make another one"));
        };
        let builder = std::mem::take(&mut self.builder);
        let pool = of_one(builder).build().inspect_err(|error| {
            // An initializer may fail before `build` returns, or after: told alike.
            self.refused = Some(match error {
                Error::NoWorkers(reason) => reason.clone(),
                other => other.to_string(),
            });
        })?;
        let handle = submit(&pool);
        // No more tasks: the process ends with this one.
        pool.close();
        self.started = Some(Started { handle, pool });
        Ok(())
    }

    pub(super) fn started(&self, else_say: &'static str) -> Result<&Started<H>> {
        self.started.as_ref().ok_or_else(|| match &self.refused {
            Some(reason) => Error::NoWorkers(reason.clone()),
            None => Error::Misuse(else_say),
        })
    }

    pub(super) async fn join(&self, limit: Option<Duration>) -> Result<()> {
        let pool = &self.started("must start process before joining it")?.pool;
        if pool.shared.ended_within(limit).await { pool.ended() } else { Err(timed_out(limit)) }
    }

    pub(super) fn join_blocking(&self, limit: Option<Duration>) -> Result<()> {
        let pool = &self.started("must start process before joining it")?.pool;
        if pool.shared.wait_ended(limit) { pool.ended() } else { Err(timed_out(limit)) }
    }

    pub(super) fn signal(&self, signal: i32) -> Result<()> {
        let pool = &self.started("must start process before ending it")?.pool;
        pool.shared.signal_single(signal)
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.started.as_ref()?.pool.shared.single().map(|single| single.pid)
    }

    pub(super) fn is_alive(&self) -> bool {
        let single = self.started.as_ref().and_then(|s| s.pool.shared.single());
        single.is_some_and(|single| single.exit.is_none())
    }

    pub(super) fn exit(&self) -> Option<WorkerExit> {
        self.started.as_ref()?.pool.shared.single()?.exit
    }

    pub(super) fn exit_code(&self) -> Option<i32> {
        exit_code(&self.started.as_ref()?.pool)
    }
}

/// A name for a process that was given none.
pub(crate) fn next_name(kind: &str) -> String {
    format!("{kind}-{}", NEXT_NAME.fetch_add(1, Ordering::Relaxed))
}

/// A pool of one process, which runs one task and is not replaced.
pub(crate) fn of_one(builder: PoolBuilder) -> PoolBuilder {
    builder
        .processes(1)
        .queues(1)
        .child_concurrency(1)
        .max_tasks_per_child(1)
        .capacity(CAPACITY)
        .without_replacement()
}

/// What the process of a pool of one exited with, if it has.
pub(crate) fn exit_code(pool: &Pool) -> Option<i32> {
    let exit = pool.shared.single()?.exit?;
    if let Some(signal) = exit.signal() {
        return Some(-signal);
    }
    match exit {
        WorkerExit::Exited(0) => Some(i32::from(pool.stats().ok != 1)),
        WorkerExit::Exited(status) => Some(status),
        _ => None,
    }
}

fn timed_out(limit: Option<Duration>) -> Error {
    Error::TimedOut { what: "the process to end", limit: limit.unwrap_or_default() }
}
