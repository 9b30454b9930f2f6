//! How a program that a start command names becomes a worker.
#![forbid(unsafe_code)]

use super::attach;
use crate::error::Result;
use crate::worker::AttachedWorker;

impl AttachedWorker {
    /// Makes this process the worker that a pool's zygote executed it to be.
    ///
    /// Once per process, before it starts threads that look at the environment. The program has
    /// to be executed, not called by another one that waits for it: a shell script ends with
    /// `exec`.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`](crate::Error::Misuse) in a process that was not started as a worker or
    /// has attached before; [`Error::System`](crate::Error::System) when the pool's library is
    /// another version, or the system refuses the mapping of its memory.
    pub fn attach() -> Result<Self> {
        Self::over(attach()?)
    }
}
