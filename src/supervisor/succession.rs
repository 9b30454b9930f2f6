//! What becomes of a pool whose zygote is gone: it goes on with another one, or ends.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::launch::{Launcher, PoolFds};
use crate::logs::Reader;
use crate::sys::pidfd;
use crate::sys::timer::Timer;
use crate::task::WorkerExit;
use crate::view::Kind;

use super::crew::DeathReport;
use super::{Respawn, Stage, Supervisor};

/// How long workers that were killed may take to die, before another zygote takes over.
const DEATHS: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Ends the pool because of `error`: every pending task ends with it.
    pub(super) fn fail(&mut self, error: Error) {
        tracing::error!(pool = self.shared.id, %error, "the pool has failed");
        self.shared.common.events.note(Kind::PoolFailed, None, error.to_string());
        self.shared.set_started(Err(error.to_string()));
        let reason = self.shared.fail(error);
        self.shared.queues.iter().for_each(|queue| queue.end_all(Some(Arc::clone(&reason))));
    }

    /// The zygote is gone, and its workers with it: the kernel sees to that. The pool goes on with
    /// another zygote where one can have what this one had, and ends where not.
    pub(super) fn lose_zygote(&mut self, error: Error) {
        let error = self.loss_of_zygote(error);
        // Before the end is told, where a caller takes it that no code of the pool runs on.
        let waits = self.shared.deadline.is_some();
        let goes_on = !waits && self.goes_on();
        let limit = if waits { None } else { Some(if goes_on { DEATHS } else { Duration::ZERO }) };
        let dead = self.crew.end_with_zygote(limit);
        let error = match goes_on.then(|| self.take_another(dead)) {
            Some(Ok(())) => {
                let text = "another fork server has taken over, and the workers are replaced";
                tracing::warn!(pool = self.shared.id, %error, "{text}");
                self.shared.common.events.note(Kind::ForkServer, None, format!("{error}: {text}"));
                return;
            }
            // Where no other zygote can have what this one had, that is the pool's end.
            Some(Err(other)) => other,
            None => error,
        };
        self.fail(error);
        self.launcher = None;
    }

    /// Returns what ended the pool, when its line to the zygote has ended with `error`.
    fn loss_of_zygote(&self, error: Error) -> Error {
        match error {
            _ if self.shared.deadline.as_ref().is_some_and(Timer::is_over) => {
                Error::ZygoteLost("the pool's deadline has passed".to_owned())
            }
            lost @ Error::ZygoteLost(_) => lost,
            other => Error::ZygoteLost(other.to_string()),
        }
    }

    fn goes_on(&self) -> bool {
        let launcher = self.launcher.as_ref();
        self.shared.plan.respawn == Respawn::Always
            && self.kill_at.is_none()
            && self.shared.stage() < Stage::Terminating
            && launcher.is_some_and(Launcher::zygote_has_died)
            && self.zygote.may_be_followed()
    }

    /// Opens the pool at another zygote; what the workers of the old one held is recovered next.
    fn take_another(&mut self, dead: bool) -> Result<()> {
        if !dead {
            let text = "a worker of it does not die".to_owned();
            return Err(Error::ZygoteLost(text));
        }
        self.zygote.succeeded();
        let Some(launcher) = &self.launcher else { return Ok(()) };
        self.launcher = Some(self.reopen(launcher)?);
        let now = crate::sys::clock::monotonic_ns();
        let ids: Vec<_> = self.crew.workers().map(|worker| worker.id).collect();
        for id in ids {
            let Some(worker) = self.crew.get_mut(id) else { continue };
            if let Some(process) = &worker.process {
                let ended = pidfd::status(process.pidfd.as_fd()).map(WorkerExit::from);
                let killed = WorkerExit::Signalled { signal: libc::SIGKILL, core_dumped: false };
                let exit = ended.unwrap_or(killed);
                let death = worker.notice_death(now);
                if death.waits_until().is_some() {
                    death.set_report(DeathReport { exit, is_final: false, cpu_ns: 0 });
                }
                continue;
            }
            // Z15: it may have been forked, and nothing says when it is dead. So the queue gets
            // another control region, which it does not know.
            let seat = worker.seat as usize;
            let queue = usize::from(id.queue);
            self.crew.discharge(id);
            self.shared.queues[queue].unprepare(usize::from(id.slot));
            self.crew.seats[seat].vacate(now);
            let text = "the fork server died while it started a worker".to_owned();
            self.condemned[queue].get_or_insert(text);
        }
        self.publish_workers();
        Ok(())
    }

    /// Opens the pool at another zygote than that of `launcher`, which is dead.
    fn reopen(&self, launcher: &Launcher) -> Result<Launcher> {
        let controls: Vec<_> = self.shared.queues.iter().map(|queue| queue.control()).collect();
        launcher.reopen(PoolFds {
            requests: self.shared.common.inputs.as_fd(),
            host_bell: self.shared.common.host_bell.as_fd(),
            supervisor_bell: self.shared.common.supervisor_bell.as_fd(),
            logs: self.logs.as_ref().map(Reader::workers_end),
            deadline: None,
            held: None,
            control: controls.iter().map(|control| control.as_fd()).collect(),
            bells: self.shared.queues.iter().map(|queue| queue.bells().collect()).collect(),
        })
    }
}
