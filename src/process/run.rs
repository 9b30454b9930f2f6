//! A process whose function's value nobody wants.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::pool::{Pool, PoolBuilder, Task};
use crate::task::{Argument, TaskError, TaskFn, TryTaskFn, WorkerExit};

use super::core::Core;

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
    core: Core<TakeError>,
}

/// Takes the error that a task ended with, if it has.
type TakeError = Box<dyn FnMut() -> Option<TaskError> + Send>;

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("name", &self.core.name).field("pid", &self.pid()).finish()
    }
}

impl Process {
    /// A process that will run `function` on `argument`.
    pub fn new<F, A>(function: F, argument: A) -> Self
    where
        F: TaskFn<A>,
        A: Argument + Send,
    {
        const { F::CHECK };
        let submit = move |pool: &Pool| keep(pool.apply(function, argument));
        Self { core: Core::new("Process", submit) }
    }

    /// [`new`](Self::new) for a function that returns a `Result`: its error is the process's.
    pub fn try_new<F, A>(function: F, argument: A) -> Self
    where
        F: TryTaskFn<A>,
        A: Argument + Send,
    {
        const { F::CHECK };
        let submit = move |pool: &Pool| keep(pool.try_apply(function, argument));
        Self { core: Core::new("Process", submit) }
    }

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

    /// What the function ended with instead of a value, once: its error, its panic, or what
    /// became of the process. `None` while it runs and if there is nothing to tell.
    pub fn take_error(&mut self) -> Option<TaskError> {
        (self.core.started.as_mut()?.handle)()
    }
}

fn keep<T: DeserializeOwned + 'static>(task: Task<T>) -> TakeError {
    let mut task = Some(task);
    Box::new(move || {
        let result = task.as_mut()?.wait_timeout(Duration::ZERO)?;
        task = None;
        result.err()
    })
}
