//! Workers that a task has replaced by another program (`exec`).
//!
//! Such a process keeps its pid and its group and never ends its tasks, so the pool looks for it,
//! kills it, and says so.

use std::os::fd::AsFd;

use crate::sys::program;
use crate::task::LossCause;
use crate::view::Kind;

use super::{Respawn, Supervisor};

/// Nanoseconds between two looks at which programs the workers run. A look opens two files of
/// `/proc` for each worker, some 20 µs.
const PAUSE: u64 = 1_000_000_000;

impl Supervisor {
    /// Has workers of `queue` killed that run another program than when they became ready.
    ///
    /// A process of a function of its own ([`Process`](crate::Process)) may become what it wants:
    /// it holds up no other task, and its end is that function's.
    pub(super) fn look_for_replaced(&mut self, queue: usize, now: u64) {
        if self.programs_due[queue] > now || self.shared.plan.respawn == Respawn::Never {
            return;
        }
        self.programs_due[queue] = now + PAUSE;
        for slot in 0..self.crew.slots[queue].len() {
            let Some((who, file)) = self.replaced(queue, slot) else { continue };
            if self.kill(queue, slot, None, LossCause::Replaced) {
                let text = format!("a task has replaced it by {file} (exec)");
                tracing::warn!(pool = self.shared.id, worker = who.0, pid = who.1, "{text}");
                self.shared.common.events.note(Kind::Death, Some(who), text);
            }
        }
    }

    /// Returns seat and pid of the worker in a slot, and what replaced it, if something did.
    fn replaced(&self, queue: usize, slot: usize) -> Option<((u32, u32), String)> {
        let worker = self.crew.slots[queue][slot].worker.as_ref()?;
        if !worker.ready || worker.killed.is_some() || worker.death.is_some() {
            return None;
        }
        let process = worker.process.as_ref()?;
        let said = self.shared.queues[queue].control().report(slot).program()?;
        if !process.pidfd.is_ours() {
            return None;
        }
        let pidfd = process.pidfd.as_fd();
        if !program::was_replaced(process.pid, pidfd, said)? {
            return None;
        }
        let file = program::file(pidfd).map(|file| file.display().to_string());
        let file = file.unwrap_or_else(|| "another program".to_owned());
        Some(((worker.seat, process.pid), file))
    }
}
