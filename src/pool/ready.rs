//! Waiting until every worker can take tasks.
#![forbid(unsafe_code)]

use crate::error::Result;

use super::Pool;

impl Pool {
    /// Waits until every worker can take tasks: its process is started and its initializer has
    /// returned. Tasks may be submitted before that; this is for a program that is to say that it
    /// is ready, or that is to fail at its start and not at its first task.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`](crate::Error::Failed) with what the initializer or the start failed with,
    /// [`Error::Closed`](crate::Error::Closed) if the pool was closed meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Giving up the wait changes nothing.
    pub async fn ready(&self) -> Result<()> {
        self.shared.check_process()?;
        self.shared.readied().await
    }

    /// [`ready`](Self::ready) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn ready_blocking(&self) -> Result<()> {
        self.shared.check_process()?;
        self.shared.wait_ready(None).expect("without a limit it is ready, or never will be")
    }
}
