//! A dead man's switch: a time at which the zygote kills every worker of a pool.

use std::os::fd::OwnedFd;

use crate::error::{Error, Result};
use crate::sys::timer::Timer;

use super::{Pool, PoolBuilder};

impl PoolBuilder {
    /// Sets a time at which every worker is killed, in nanoseconds of `CLOCK_BOOTTIME`
    /// ([`remote::boottime_ns`](crate::remote::boottime_ns)): a dead man's switch.
    ///
    /// The zygote waits for it, so that it comes even if this process is stopped, starved or
    /// blocked; [`Pool::extend_deadline`] pushes it out. Where the zygote is stopped, too, the
    /// kernel ends it a second later, and with it the workers of all its pools. When the time has
    /// come, the pool has ended: no worker of it is ever started again. What a task has put into a
    /// process group of its own is not reached.
    #[must_use]
    pub fn deadline(mut self, boottime_ns: u64) -> Self {
        self.deadline = Some(boottime_ns);
        self
    }

    /// Has the zygote and every worker keep a descriptor open until they have ended, and do nothing
    /// else with it; programs that tasks start do not get it.
    ///
    /// A lock that an open file holds is free when the last process of the pool has ended, and not
    /// before, whichever of them ended first and however. Such a pool ends with its fork server.
    #[must_use]
    pub fn hold(mut self, descriptor: OwnedFd) -> Self {
        self.held = Some(descriptor);
        self
    }

    /// Makes the timer that the zygote waits for.
    pub(super) fn timer(&self) -> Result<Option<Timer>> {
        let timer = self.deadline.map(Timer::new).transpose();
        timer.map_err(|error| Error::system("create a timer", error))
    }
}

impl Pool {
    /// Moves the time at which every worker is killed; see
    /// [`PoolBuilder::deadline`](PoolBuilder::deadline).
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for a pool that was built without a deadline, [`Error::Forked`] in a
    /// forked child.
    pub fn extend_deadline(&self, boottime_ns: u64) -> Result<()> {
        self.shared.check_process()?;
        let timer = self.shared.deadline.as_ref().ok_or(Error::Misuse(
            "the pool has no deadline that could be moved: build it with one",
        ))?;
        timer.set(boottime_ns).map_err(|error| Error::system("move the pool's deadline", error))
    }
}
