//! What the zygote does when a worker is dead.

use std::os::fd::AsFd;

use super::super::StartMethod;
use super::super::wire::{self, Answer};
use super::child_table::Child;
use super::serve::Zygote;
use crate::sync::crash::{self, Point};
use crate::sys::wait::{self, Ended};
use crate::sys::{clock, process, signal};
use crate::task::WorkerExit;

impl Zygote {
    /// Reaps what tasks had started and left behind, which is this process's child since.
    pub(super) fn reap_orphans(&mut self) {
        signal::take_pending(self.deaths.as_fd());
        while let Some(pid) = wait::any_dead() {
            match self.workers.iter().position(|worker| worker.pid == pid) {
                Some(index) => self.reap(index),
                None => {
                    let _ = wait::reap_waiting(pid);
                }
            }
        }
    }

    /// Reaps a dead worker: reads its status, kills what is left of its group, reaps, reports.
    pub(super) fn reap(&mut self, index: usize) {
        let ended = wait::look(self.workers[index].pidfd.as_fd());
        if let Ok(None) = ended {
            return;
        }
        // What it said of its start came before its death, but maybe after the last look.
        self.hear_started();
        let worker = self.workers.remove(index);
        // Z6: while it is a zombie its number names no other group. Afterwards it might.
        if ended.is_ok() {
            let _ = process::signal_group(worker.pid, libc::SIGKILL);
        }
        crash::here(Point::Z6);
        // A zombie still has its clock.
        let cpu_ns = clock::cpu_ns_of(worker.pid).unwrap_or(0);
        let _ = wait::reap(worker.pidfd.as_fd());
        let exit = self.cause(&worker, ended.ok().flatten());
        let (id, pid, is_final) = (worker.id, worker.pid, worker.is_final);
        let died = Answer::Died { id, pid, exit, is_final, cpu_ns };
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.key == worker.pool) {
            // A host that does not listen any more has closed the line, which is seen next.
            pool.say(&died, None);
        }
    }

    fn cause(&mut self, worker: &Child, ended: Option<Ended>) -> WorkerExit {
        let Some(ended) = ended else { return WorkerExit::Unknown };
        let kept = self.pools.iter().find(|pool| pool.key == worker.pool);
        let command = match kept.and_then(|pool| pool.kept.as_ref()).map(|kept| &kept.spec.start) {
            Some(StartMethod::Command(words)) => Some(words.clone()),
            _ => None,
        };
        let named = |text: String| match &command {
            Some(words) => format!("the command {words:?}: {text}"),
            None => text,
        };
        if let Some(Err(reason)) = &worker.started {
            return WorkerExit::NotStarted { reason: wire::reason(named(reason.clone())) };
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
            let text = format!(
                "the program {exit} before it attached: does it call aiopool_worker_attach?"
            );
            return WorkerExit::NotStarted { reason: wire::reason(named(text)) };
        }
        exit
    }
}
