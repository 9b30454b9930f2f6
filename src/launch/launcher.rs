//! One pool's line to the zygote.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{ForkOrder, PoolFds, PoolSpec};
use crate::error::{Error, Result};
use crate::table::WorkerId;
use crate::task::WorkerExit;

/// One pool's line to the zygote. Dropping it ends the pool's workers.
#[derive(Debug)]
pub(crate) struct Launcher {
    line: OwnedFd,
    zygote: OwnedFd,
}

/// What the zygote says about a worker.
#[derive(Debug)]
pub(crate) enum Report {
    /// The worker runs.
    Forked {
        /// Which one.
        id: WorkerId,
        /// Its process id.
        pid: u32,
        /// Becomes readable when it dies.
        pidfd: OwnedFd,
    },
    /// No process came to be; the order may be given again.
    ForkFailed {
        /// Which one.
        id: WorkerId,
        /// What was refused, and what to do about it.
        reason: String,
    },
    /// The worker is dead and reaped, and so is its process group.
    Died {
        /// Which one.
        id: WorkerId,
        /// The process id it had.
        pid: u32,
        /// What it ended with.
        exit: WorkerExit,
    },
}

const PENDING: Error = Error::Misuse("launch is being written");

impl Launcher {
    /// Opens a line for a new pool; starts the zygote if there is none.
    pub(crate) fn open(_spec: &PoolSpec, _fds: PoolFds<'_>) -> Result<Self> {
        Err(PENDING)
    }

    /// Orders a worker; the answer comes as a [`Report`].
    pub(crate) fn fork(&self, _order: &ForkOrder, _outputs: BorrowedFd<'_>) -> Result<()> {
        Err(PENDING)
    }

    /// Orders `SIGKILL` for a worker's process group; nothing happens if `id` lives no more.
    pub(crate) fn kill(&self, _id: WorkerId) -> Result<()> {
        Err(PENDING)
    }

    /// Gives later workers of `queue` another control region.
    pub(crate) fn replace_control(&self, _queue: u32, _control: BorrowedFd<'_>) -> Result<()> {
        Err(PENDING)
    }

    /// Readable when [`Launcher::recv`] has something to say.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// Readable when the zygote is dead.
    pub(crate) fn zygote_pidfd(&self) -> BorrowedFd<'_> {
        self.zygote.as_fd()
    }

    /// The next report, if there is one; never waits.
    pub(crate) fn recv(&self) -> Result<Option<Report>> {
        Err(PENDING)
    }
}
