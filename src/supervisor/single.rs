//! The process of a pool that never has another one.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::sys::own_fd::OwnFd;
use crate::sys::{pidfd, requests};
use crate::task::WorkerExit;

use super::plan::Respawn;
use super::shared::{Shared, Single};

impl Shared {
    /// Returns the process of a pool that has but one; none in a forked child.
    pub(crate) fn single(&self) -> Option<Single> {
        if self.is_owner() { self.life().single.clone() } else { None }
    }

    /// Sends that process a signal. Does nothing if it is gone.
    pub(crate) fn signal_single(&self, signal: i32) -> Result<()> {
        self.check_process()?;
        let Some(single) = self.single().filter(|single| single.exit.is_none()) else {
            return Ok(());
        };
        let sent = match signal {
            // Marked as the host's own: a worker treats another process's SIGTERM as a request.
            libc::SIGTERM => requests::terminate(single.pidfd.as_fd()),
            _ => pidfd::send_signal(single.pidfd.as_fd(), signal),
        };
        match sent {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::system("send the process a signal", error))
            }
            _ => Ok(()),
        }
    }

    /// Notes the process of a pool that never has another one.
    pub(super) fn process_started(&self, pid: u32, pidfd: &Arc<OwnFd>) {
        if self.plan.respawn == Respawn::Never {
            self.life().single = Some(Single { pid, pidfd: Arc::clone(pidfd), exit: None });
        }
    }

    /// Notes how that process ended.
    pub(super) fn process_ended(&self, exit: &WorkerExit) {
        if let Some(single) = &mut self.life().single {
            single.exit = Some(exit.clone());
        }
    }
}
