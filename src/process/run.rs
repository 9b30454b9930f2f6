//! A process for a function whose value is not wanted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::pool::{Pool, PoolBuilder, Task};
use crate::task::{Argument, TaskError, TaskFn, TryTaskFn, WorkerExit};

use super::pool_of_one::{exit_code, next_name, of_one};

/// Runs one async function in a process of its own.
///
/// Dropping it kills the process: nothing is left behind.
///
/// ```
/// async fn work(seconds: u64) {
///     tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
/// }
/// # fn main() -> aiopool::Result<()> {
/// let mut process = aiopool::Process::new(work, 3600);
/// process.start()?;
/// assert!(process.is_alive());
/// process.terminate()?;
/// process.join_blocking(None)?;
/// assert_eq!(process.exit_code(), Some(-15));
/// # Ok(())
/// # }
/// ```
pub struct Process {
    name: String,
    builder: PoolBuilder,
    submit: Unshared<Option<Submit>>,
    started: Option<Started>,
    /// Why it could not be started.
    refused: Option<String>,
}

/// In a mutex only so that references to a process can be sent to other threads.
type Unshared<T> = Mutex<T>;

/// Submits the one task, and returns what takes its error.
type Submit = Box<dyn FnOnce(&Pool) -> TakeError + Send>;

/// Takes the error that a task ended with, if it has.
type TakeError = Box<dyn FnMut() -> Option<TaskError> + Send>;

struct Started {
    // Before the pool, which ends what the task's handle would cancel.
    take_error: Unshared<TakeError>,
    pool: Pool,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("name", &self.name).field("pid", &self.pid()).finish()
    }
}

impl Process {
    /// Creates a process that will run `function` on `argument`.
    pub fn new<F, A>(function: F, argument: A) -> Self
    where
        F: TaskFn<A>,
        A: Argument + Send,
    {
        const { F::CHECK };
        let submit = move |pool: &Pool| take_error(pool.apply(function, argument));
        Self::over("Process", submit)
    }

    /// [`new`](Self::new) for a function that returns a `Result`: its error is the process's.
    pub fn try_new<F, A>(function: F, argument: A) -> Self
    where
        F: TryTaskFn<A>,
        A: Argument + Send,
    {
        const { F::CHECK };
        let submit = move |pool: &Pool| take_error(pool.try_apply(function, argument));
        Self::over("Process", submit)
    }

    /// Changes options of the pool of one that it runs in: initializer, exit hook, start method.
    #[must_use]
    pub fn configure(mut self, options: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Self {
        self.builder = options(std::mem::take(&mut self.builder));
        self
    }

    /// Gives it a name of the caller's choice, for logs.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Returns its name: the one it was given, or the kind and a number.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`](crate::Error::Misuse) at the second call; as
    /// [`PoolBuilder::build`] else.
    pub fn start(&mut self) -> Result<()> {
        let Some(submit) = self.submit.get_mut().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return Err(Error::Misuse("the process was started before: make another one"));
        };
        let builder = std::mem::take(&mut self.builder);
        let pool = of_one(builder).build().inspect_err(|error| {
            // An initializer may fail before `build` returns, or after: reported alike.
            self.refused = Some(match error {
                Error::NoWorkers(reason) => reason.clone(),
                other => other.to_string(),
            });
        })?;
        let take_error = Mutex::new(submit(&pool));
        // No more tasks: the process ends with this one.
        pool.close();
        self.started = Some(Started { take_error, pool });
        Ok(())
    }

    /// Waits until the process is gone, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`](crate::Error::Misuse) if it was not started,
    /// [`Error::TimedOut`](crate::Error::TimedOut) if it is still there after `limit`,
    /// [`Error::Failed`](crate::Error::Failed) if its initializer failed,
    /// [`Error::Forked`](crate::Error::Forked) in a forked child. That the function failed is no
    /// error here: see [`exit_code`](Self::exit_code).
    ///
    /// # Cancel safety
    ///
    /// Giving up the wait changes nothing.
    pub async fn join(&self, limit: Option<Duration>) -> Result<()> {
        let pool = &self.started("must start process before joining it")?.pool;
        pool.shared.check_process()?;
        if pool.shared.ended_within(limit).await { pool.ended() } else { Err(timed_out(limit)) }
    }

    /// [`join`](Self::join) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_blocking(&self, limit: Option<Duration>) -> Result<()> {
        let pool = &self.started("must start process before joining it")?.pool;
        pool.shared.check_process()?;
        if pool.shared.wait_ended(limit) { pool.ended() } else { Err(timed_out(limit)) }
    }

    /// Returns whether the process was started and has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let single = self.started.as_ref().and_then(|s| s.pool.shared.single());
        single.is_some_and(|single| single.exit.is_none())
    }

    /// Returns its process id, from the start on.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.started.as_ref()?.pool.shared.single().map(|single| single.pid)
    }

    /// Returns how it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<WorkerExit> {
        self.started.as_ref()?.pool.shared.single()?.exit
    }

    /// Returns its exit code, if it has ended: 0 if the function returned, 1 if it failed or
    /// panicked, minus the signal's number if one killed it, else what the process exited with.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        exit_code(&self.started.as_ref()?.pool)
    }

    /// Sends the process `SIGTERM`, which ends it unless its code handles that.
    ///
    /// A `SIGTERM` that comes from elsewhere does nothing: a service manager sends it to all.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`](crate::Error::Misuse) if it was not started.
    pub fn terminate(&self) -> Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Sends the process `SIGKILL`.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`](crate::Error::Misuse) if it was not started.
    pub fn kill(&self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Returns what the function ended with instead of a value, once: its error, its panic, or what
    /// became of the process. `None` while it runs and if there is nothing to tell.
    pub fn take_error(&mut self) -> Option<TaskError> {
        let take_error = &mut self.started.as_mut()?.take_error;
        take_error.get_mut().unwrap_or_else(PoisonError::into_inner)()
    }

    /// Returns a process of which `submit` will submit the task.
    pub(super) fn over(
        kind: &str,
        submit: impl FnOnce(&Pool) -> TakeError + Send + 'static,
    ) -> Self {
        Self {
            name: next_name(kind),
            builder: Pool::builder(),
            submit: Mutex::new(Some(Box::new(submit))),
            started: None,
            refused: None,
        }
    }

    /// Returns whether [`start`](Self::start) has succeeded.
    pub(super) fn was_started(&self) -> bool {
        self.started.is_some()
    }

    fn started(&self, otherwise: &'static str) -> Result<&Started> {
        self.started.as_ref().ok_or_else(|| match &self.refused {
            Some(reason) => Error::NoWorkers(reason.clone()),
            None => Error::Misuse(otherwise),
        })
    }

    fn signal(&self, signal: i32) -> Result<()> {
        let pool = &self.started("must start process before ending it")?.pool;
        pool.shared.signal_single(signal)
    }
}

fn timed_out(limit: Option<Duration>) -> Error {
    Error::TimedOut { what: "the process to end", limit: limit.unwrap_or_default() }
}

fn take_error<T: DeserializeOwned + 'static>(task: Task<T>) -> TakeError {
    let mut task = Some(task);
    Box::new(move || {
        let result = task.as_mut()?.wait_timeout(Duration::ZERO)?;
        task = None;
        result.err()
    })
}
