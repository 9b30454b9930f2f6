//! A process whose function's value is awaited.

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::pool::{Pool, PoolBuilder, Task};
use crate::sync::lock;
use crate::task::{Argument, TaskError, TaskFn, TryTaskFn};

use super::run::Process;

/// Runs one async function in a process of its own; awaiting it gives the value, or the error as
/// an error.
///
/// Awaiting starts it if need be, and waits until the process is gone. Dropping it kills the
/// process. In all else it is a [`Process`], whose methods it has.
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
    /// The task, from the start until its value is taken. Before the process, whose end would
    /// otherwise be what it hears of.
    task: Arc<Mutex<Option<Task<T>>>>,
    process: Process,
}

impl<T> std::fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("name", &self.name()).field("pid", &self.pid()).finish()
    }
}

impl<T: DeserializeOwned + 'static> Worker<T> {
    /// Creates a worker that will run `function` on `argument`.
    pub fn new<F, A>(function: F, argument: A) -> Self
    where
        F: TaskFn<A, Value = T>,
        A: Argument + Send,
    {
        const { F::CHECK };
        Self::over(move |pool| pool.apply(function, argument))
    }

    /// [`new`](Self::new) for a function that returns a `Result`: its error is the worker's.
    pub fn try_new<F, A>(function: F, argument: A) -> Self
    where
        F: TryTaskFn<A, Value = T>,
        A: Argument + Send,
    {
        const { F::CHECK };
        Self::over(move |pool| pool.try_apply(function, argument))
    }

    /// Returns the function's value; as awaiting the worker, which it leaves to be asked for the
    /// rest.
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
        let _ = self.join(None).await;
        result
    }

    /// [`value`](Self::value) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`value`](Self::value).
    pub fn wait(&mut self) -> std::result::Result<T, TaskError> {
        let result = self.take_task()?.wait();
        let _ = self.join_blocking(None);
        result
    }

    fn over(submit: impl FnOnce(&Pool) -> Task<T> + Send + 'static) -> Self {
        let task = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&task);
        let process = Process::over("Worker", move |pool| {
            *lock(&slot) = Some(submit(pool));
            // The error comes with the value.
            Box::new(|| None)
        });
        Self { task, process }
    }

    fn take_task(&mut self) -> std::result::Result<Task<T>, TaskError> {
        if !self.was_started() {
            self.start().map_err(TaskError::not_submitted)?;
        }
        lock(&self.task).take().ok_or_else(|| {
            TaskError::not_submitted(Error::Misuse("the worker's value was taken before"))
        })
    }
}

impl<T> Worker<T> {
    /// Changes options of the pool of one that it runs in: initializer, exit hook, start method.
    #[must_use]
    pub fn configure(mut self, options: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Self {
        self.process = self.process.configure(options);
        self
    }

    /// Gives it a name of the caller's choice, for logs.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.process = self.process.with_name(name);
        self
    }
}

impl<T> Deref for Worker<T> {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl<T> DerefMut for Worker<T> {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for Worker<T> {
    type Output = std::result::Result<T, TaskError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move { self.value().await })
    }
}
