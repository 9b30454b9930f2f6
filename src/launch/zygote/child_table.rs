//! What the zygote knows of each worker that it has forked and not reaped.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use crate::sys::{pidfd, process};
use crate::table::WorkerId;

/// A child that is not reaped yet: its pid, and the group it leads, are its own.
#[derive(Debug)]
pub(super) struct Child {
    pub id: WorkerId,
    /// The key of its pool.
    pub pool: u64,
    pub pid: u32,
    pub pidfd: OwnedFd,
    /// It executes a program, which has to say that it attached.
    pub executed: bool,
    /// What it said about its start.
    pub started: Option<Result<(), String>>,
    /// Another process of the same program would not start either.
    pub is_final: bool,
    /// `SIGKILL` was ordered.
    pub killed: bool,
}

impl Child {
    pub(super) fn new(id: WorkerId, pool: u64, pid: u32, pidfd: OwnedFd, executed: bool) -> Self {
        Self { id, pool, pid, pidfd, executed, started: None, is_final: false, killed: false }
    }

    /// Kills it, in whatever group it is, and the group that it leads.
    pub(super) fn kill(&mut self) {
        self.killed = true;
        // Before it leads its group, or when its task has moved it to another, this alone finds it.
        // An error: it is dead.
        let _ = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        // The only possible cause is that the group is empty.
        let _ = process::signal_group(self.pid, libc::SIGKILL);
    }
}
