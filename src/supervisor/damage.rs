//! Damage in shared memory. A worker whose lane or arena is damaged is killed. If a control region
//! is damaged, all workers of its queue are killed and the region is replaced; the pending tasks
//! go on.

use std::os::fd::AsFd;

use crate::control::Control;
use crate::error::Error;
use crate::sys::clock::monotonic_ns;
use crate::table::Owner;
use crate::task::LossCause;
use crate::view::Kind;

use super::{Stage, Supervisor};

impl Supervisor {
    /// Has workers killed whose lanes or arenas are damaged.
    pub(super) fn repair_damage(&mut self) {
        for queue in 0..self.shared.queues.len() {
            for (slot, what) in self.shared.queues[queue].take_damage() {
                if self.crew.slots[queue].get(slot).is_none_or(|slot| slot.worker.is_none()) {
                    // The slot has no worker, so a process that has no business there wrote to it.
                    self.condemn(queue, what);
                    continue;
                }
                if self.kill(queue, slot, None, LossCause::Damage) {
                    self.shared.common.counters.corrupt.add(1);
                    self.shared.common.events.note(Kind::Damage, None, what.clone());
                    let pool = self.shared.id;
                    tracing::error!(
                        pool,
                        queue,
                        slot,
                        what,
                        "shared memory is damaged; the worker goes"
                    );
                }
            }
        }
    }

    /// Audits the queues in which something may be stuck.
    pub(super) fn watch(&mut self, now: u64) {
        let Some(due) = self.watch.begin_round(&self.shared, now) else { return };
        for queue in due {
            self.audit(queue);
            self.look_for_replaced(queue, now);
        }
        self.watch.end_round(monotonic_ns());
    }

    /// Checks every record of `queue`, and condemns the queue if its control region is damaged.
    pub(super) fn audit(&mut self, queue: usize) {
        let slots = &self.crew.slots[queue];
        let incarnation = |slot: usize| {
            slots.get(slot).and_then(|slot| slot.worker.as_ref()).map(|w| Owner::of(w.id))
        };
        if let Some(what) = self.shared.queues[queue].audit(incarnation) {
            self.condemn(queue, what);
        }
    }

    /// Has all workers of `queue` killed, since the damage `what` was found in its control region.
    /// The region is replaced when they are dead.
    pub(super) fn condemn(&mut self, queue: usize, what: String) {
        if self.condemned[queue].is_some() || self.shared.stage() >= Stage::Terminating {
            return;
        }
        tracing::error!(
            pool = self.shared.id,
            queue,
            what,
            "a control region is damaged; the queue's workers go"
        );
        self.shared.common.counters.corrupt.add(1);
        let text = format!("queue {queue}: {what}");
        self.shared.common.events.note(Kind::Damage, None, text);
        self.condemned[queue] = Some(what);
        for slot in 0..self.crew.slots[queue].len() {
            self.kill(queue, slot, None, LossCause::Damage);
        }
    }

    /// Gives condemned queues that have no worker left a new control region.
    pub(super) fn rebuild(&mut self) {
        for index in 0..self.condemned.len() {
            if self.crew.slots[index].iter().any(|slot| slot.worker.is_some()) {
                continue;
            }
            let Some(what) = self.condemned[index].take() else { continue };
            let Some(launcher) = &self.launcher else { return };
            let replaced = Control::create(self.shared.plan.shape(index as u32))
                .map_err(|error| Error::system("create a new control region", error))
                .and_then(|control| {
                    self.shared.traces.carry_over(&control);
                    launcher.replace_control(index as u32, control.as_fd())?;
                    Ok(control)
                });
            match replaced {
                Ok(control) => self.shared.queues[index].rebuild(control, &what),
                Err(error) => self.fail(error),
            }
        }
    }
}
