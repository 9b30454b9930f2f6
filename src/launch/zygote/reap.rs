//! What the zygote knows of a worker, and what it does when one is dead.

use std::os::fd::{AsFd, OwnedFd};

use super::super::wire::{self, Answer};
use super::serve::Zygote;
use crate::sync::crash::{self, Point};
use crate::sys::wait::{self, Ended};
use crate::sys::{clock, process};
use crate::table::WorkerId;
use crate::task::WorkerExit;

/// A child that is not reaped yet: its pid, and the group it leads, are its own.
#[derive(Debug)]
pub(super) struct Worker {
    pub id: WorkerId,
    /// The key of its pool.
    pub pool: u64,
    pub pid: u32,
    pub pidfd: OwnedFd,
    /// It executes a program, which has to say that it attached.
    executed: bool,
    /// What it said about its start.
    pub started: Option<Result<(), String>>,
    /// `SIGKILL` was ordered.
    killed: bool,
}

impl Worker {
    pub(super) fn new(id: WorkerId, pool: u64, pid: u32, pidfd: OwnedFd, executed: bool) -> Self {
        Self { id, pool, pid, pidfd, executed, started: None, killed: false }
    }

    /// Kills its process group.
    pub(super) fn kill(&mut self) {
        self.killed = true;
        // It can only be that nobody is left in it.
        let _ = process::signal_group(self.pid, libc::SIGKILL);
    }
}

impl Zygote {
    /// Buries a dead worker: looks, kills what is left of its group, reaps, reports.
    pub(super) fn bury(&mut self, index: usize) {
        let worker = self.workers.remove(index);
        let ended = wait::look(worker.pidfd.as_fd());
        if let Ok(None) = ended {
            self.workers.insert(index, worker);
            return;
        }
        // Z6: while it is a zombie its number names no other group. Afterwards it might.
        if ended.is_ok() {
            let _ = process::signal_group(worker.pid, libc::SIGKILL);
        }
        crash::here(Point::Z6);
        // A zombie still has its clock.
        let cpu_ns = clock::cpu_ns_of(worker.pid).unwrap_or(0);
        let _ = wait::reap(worker.pidfd.as_fd());
        let exit = self.cause(&worker, ended.ok().flatten());
        let died = Answer::Died { id: worker.id, pid: worker.pid, exit, cpu_ns };
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.key == worker.pool) {
            // A host that does not listen any more has closed the line, which is seen next.
            pool.say(&died, None);
        }
    }

    fn cause(&mut self, worker: &Worker, ended: Option<Ended>) -> WorkerExit {
        let Some(ended) = ended else { return WorkerExit::Unknown };
        if let Some(Err(reason)) = &worker.started {
            return WorkerExit::NotStarted { reason: reason.clone() };
        }
        let signalled = matches!(ended, Ended::Signalled { .. });
        if matches!(ended, Ended::Signalled { signal: libc::SIGKILL, .. })
            && !worker.killed
            && self.oom.explains_a_death()
        {
            return WorkerExit::OutOfMemory;
        }
        let exit = WorkerExit::from(ended);
        if worker.executed && worker.started.is_none() && !signalled {
            let reason = wire::reason(format!(
                "the program {exit} before it attached: does it call aiopool_worker_attach?"
            ));
            return WorkerExit::NotStarted { reason };
        }
        exit
    }
}
