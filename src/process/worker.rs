//! A process whose function's value is awaited.

use std::pin::Pin;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::pool::{Pool, PoolBuilder, Task};
use crate::task::{Argument, TaskError, TaskFn, TryTaskFn, WorkerExit};

use super::core::Core;

/// Runs one async function in a process of its own; awaiting it gives the value, or the error as
/// an error.
///
/// Awaiting starts it if need be, and waits until the process is gone. Dropping it kills the
/// process.
///
/// ```
/// async fn double(x: u64) -> u64 {
///     x * 2
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let value = aiopool::block_on(aiopool::Worker::new(double, 21))?;
/// assert_eq!(value, 42);
/// # Ok(())
/// # }
/// ```
pub struct Worker<T> {
    core: Core<Option<Task<T>>>,
}

impl<T> std::fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("name", &self.core.name).field("pid", &self.pid()).finish()
    }
}

impl<T: DeserializeOwned + 'static> Worker<T> {
    /// A worker that will run `function` on `argument`.
    pub fn new<F, A>(function: F, argument: A) -> Self
    where
        F: TaskFn<A, Value = T>,
        A: Argument + Send,
    {
        const { F::CHECK };
        let submit = move |pool: &Pool| Some(pool.apply(function, argument));
        Self { core: Core::new("Worker", submit) }
    }

    /// [`new`](Self::new) for a function that returns a `Result`: its error is the worker's.
    pub fn try_new<F, A>(function: F, argument: A) -> Self
    where
        F: TryTaskFn<A, Value = T>,
        A: Argument + Send,
    {
        const { F::CHECK };
        let submit = move |pool: &Pool| Some(pool.try_apply(function, argument));
        Self { core: Core::new("Worker", submit) }
    }

    /// The function's value; as awaiting the worker, which it leaves to be asked for the rest.
    ///
    /// # Errors
    ///
    /// What the function ended with; [`TaskError::NotSubmitted`] if the process cannot be started
    /// or the value was taken before.
    ///
    /// # Cancel safety
    ///
    /// Giving up the wait before the process has ended may lose the value.
    pub async fn value(&mut self) -> std::result::Result<T, TaskError> {
        let result = self.take_task()?.await;
        // The process is on its way out; its exit code is there when this returns.
        let _ = self.core.join(None).await;
        result
    }

    /// [`value`](Self::value) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`value`](Self::value).
    pub fn wait(&mut self) -> std::result::Result<T, TaskError> {
        let result = self.take_task()?.wait();
        let _ = self.core.join_blocking(None);
        result
    }

    fn take_task(&mut self) -> std::result::Result<Task<T>, TaskError> {
        if self.core.started.is_none() {
            self.core.start().map_err(TaskError::not_submitted)?;
        }
        let started = self.core.started.as_mut();
        started.and_then(|started| started.handle.take()).ok_or_else(|| {
            TaskError::not_submitted(Error::Misuse("the worker's value was taken before"))
        })
    }
}

impl<T> Worker<T> {
    /// Changes options of the pool of one that it runs in: initializer, exit hook, start method.
    #[must_use]
    pub fn configure(mut self, options: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Self {
        self.core.configure(options);
        self
    }

    /// Gives it a name of the caller's choice, for logs.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.core.name = name.into();
        self
    }

    /// Its name: the one it was given, or the kind and a number.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`](crate::Error::Misuse) at the second call; as
    /// [`PoolBuilder::build`] else.
    pub fn start(&mut self) -> Result<()> {
        self.core.start()
    }

    /// Waits until the process is gone, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`](crate::Error::Misuse) if it was not started,
    /// [`Error::TimedOut`](crate::Error::TimedOut) if it is still there after `limit`,
    /// [`Error::Failed`](crate::Error::Failed) if its initializer failed. That the function
    /// failed is no error here: see [`exit_code`](Self::exit_code).
    ///
    /// # Cancel safety
    ///
    /// Giving up the wait changes nothing.
    pub async fn join(&self, limit: Option<Duration>) -> Result<()> {
        self.core.join(limit).await
    }

    /// [`join`](Self::join) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_blocking(&self, limit: Option<Duration>) -> Result<()> {
        self.core.join_blocking(limit)
    }

    /// Whether the process was started and has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.core.is_alive()
    }

    /// Its process id, from the start on.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.core.pid()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<WorkerExit> {
        self.core.exit()
    }

    /// Its exit code, if it has ended: 0 if the function returned, 1 if it failed or panicked,
    /// minus the signal's number if one killed it, else what the process exited with.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.core.exit_code()
    }

    /// Sends the process `SIGTERM`, which ends it unless its code handles that.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`](crate::Error::Misuse) if it was not started.
    pub fn terminate(&self) -> Result<()> {
        self.core.signal(libc::SIGTERM)
    }

    /// Sends the process `SIGKILL`.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`](crate::Error::Misuse) if it was not started.
    pub fn kill(&self) -> Result<()> {
        self.core.signal(libc::SIGKILL)
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for Worker<T> {
    type Output = std::result::Result<T, TaskError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move { self.value().await })
    }
}
