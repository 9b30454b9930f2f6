//! The end of a pool: its workers leave, or are killed after the grace period.

use crate::table::WorkerId;
use crate::task::LossCause;

use super::{Stage, Supervisor};

impl Supervisor {
    /// Moves the end of the pool on. True when nothing is left of it.
    pub(super) fn is_over(&mut self, now: u64) -> bool {
        let stage = self.shared.stage();
        if stage == Stage::Open {
            return false;
        }
        if stage == Stage::Closed && self.kill_at.is_none() && self.shared.pending() > 0 {
            return false;
        }
        if self.launcher.is_none() {
            return true;
        }
        if stage >= Stage::Terminating {
            let reason = self.shared.reason();
            self.shared.queues.iter().for_each(|queue| queue.end_all(reason.clone()));
        }
        if self.kill_at.is_none() {
            self.kill_at = Some(now.saturating_add(self.shared.common.grace_ns));
            for worker in self.crew.workers() {
                let queue = &self.shared.queues[usize::from(worker.id.queue)];
                let slot = usize::from(worker.id.slot);
                queue.control().attention(slot).stop();
                queue.ring(slot);
            }
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            let ids: Vec<WorkerId> = self.crew.workers().map(|worker| worker.id).collect();
            for id in ids {
                self.kill(usize::from(id.queue), usize::from(id.slot), None, LossCause::Death);
            }
        }
        self.crew.workers().next().is_none()
    }
}
