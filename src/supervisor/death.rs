//! The end of a worker: its tasks are recovered, its death is counted, and its seat is freed.

use std::sync::Arc;

use crate::control::Phase;
use crate::error::Error;
use crate::launch::last_words;
use crate::queue::DeadWorker;
use crate::scheduler::ProcessInfo;
use crate::table::WorkerId;
use crate::task::{LossCause, WorkerExit};
use crate::view::Kind;

use super::crew::DeathReport;
use super::{Respawn, Stage, Supervisor};

impl Supervisor {
    /// Handles the deaths of workers, each as soon as the zygote has reported how the worker ended,
    /// or has not for too long.
    pub(super) fn handle_deaths(&mut self, now: u64) {
        let workers = self.crew.workers();
        let due = workers.filter(|worker| worker.death.as_ref().is_some_and(|it| it.is_due(now)));
        let ids: Vec<WorkerId> = due.map(|worker| worker.id).collect();
        for id in ids {
            self.handle_death(id, now);
        }
    }

    fn handle_death(&mut self, id: WorkerId, now: u64) {
        let Some(worker) = self.crew.discharge(id) else { return };
        let Some(death) = &worker.death else { return };
        let DeathReport { exit, is_final, cpu_ns } = death.report();
        let queue = Arc::clone(&self.shared.queues[usize::from(id.queue)]);
        let slot = usize::from(id.slot);
        let control = queue.control();
        let report = control.report(slot);
        let (phase, completed) = (report.phase(), report.has_completed());
        let text = (phase == Some(Phase::InitFailed)).then(|| queue.failure_text(slot)).flatten();
        let cause = worker.killed.unwrap_or(LossCause::Death);
        let pid = worker.process.as_ref().map_or(0, |process| process.pid);
        let output = self.shared.plan.output.as_ref();
        let stderr = output.map(|directory| last_words(directory, worker.seat));
        let stderr = stderr.unwrap_or_default();
        let dead = DeadWorker { id, seat: worker.seat, pid, exit: exit.clone(), cause, stderr };
        let planned =
            phase == Some(Phase::Leaving) && exit == WorkerExit::Exited(crate::worker::EXIT_OK);
        // First: a caller that has the outcome of a task that the worker held finds the death among
        // the pool's numbers and events.
        self.count_end(&dead, planned, worker.retiring);
        let held_any = queue.recover(&dead);
        // A faulty process may have overwritten its phase before the supervisor read it.
        let was_ready = worker.ready || completed || held_any;
        let failure = text.filter(|_| !was_ready);
        let common = &self.shared.common;
        common.counters.cpu_ns.add(cpu_ns as usize);
        let seat = &mut self.crew.seats[worker.seat as usize];
        if planned || worker.retiring {
            // The seat was freed when the worker began to retire.
        } else if worker.killed == Some(LossCause::Damage) {
            // The pool killed it, which says nothing about the next worker.
            seat.vacate(now);
        } else {
            seat.lost(now, was_ready, completed);
        }
        self.shared.process_ended(&exit);
        let respawn = self.shared.plan.respawn;
        if respawn == Respawn::Never && failure.is_none() {
            queue.lose_all(&dead);
        }
        if let Some(text) = failure.as_ref().or(worker.late.as_ref()) {
            common.events.note(Kind::InitializerFailed, Some((worker.seat, pid)), text.clone());
        }
        let how = if planned { "left in order".to_owned() } else { exit.to_string() };
        common.events.ended(worker.seat, &how);
        self.publish_workers();
        let info = ProcessInfo::new(id.queue, worker.seat, pid);
        self.shared.notifier.process_ended(&info, !planned);
        if let Some(text) = failure {
            self.init_failures += 1;
            if self.init_failures >= respawn.max_init_failures() {
                self.fail(Error::Initializer(text));
            }
        } else if let Some(text) = worker.late {
            self.init_failures += 1;
            let alone = !self.crew.workers().any(|worker| worker.ready);
            if alone || self.init_failures >= respawn.max_init_failures() {
                self.fail(Error::NoWorkers(text));
            }
        } else if is_final && !self.crew.workers().any(|worker| worker.ready) {
            self.fail(Error::NoWorkers(exit.to_string()));
        } else if self.crew.is_hopeless() {
            self.fail(Error::NoWorkers(format!("before it took a task, the last one {exit}")));
        }
    }

    /// Counts and reports the end of a worker, which left in order or died.
    fn count_end(&self, worker: &DeadWorker, left_in_order: bool, was_retiring: bool) {
        let common = &self.shared.common;
        let counters = &common.counters;
        let &DeadWorker { seat, pid, cause, ref exit, .. } = worker;
        let who = Some((seat, pid));
        if !left_in_order {
            counters.deaths.add(1);
            let kind = match cause {
                LossCause::NeighbourTimedOut => {
                    counters.killed_for_deadline.add(1);
                    Kind::KilledForDeadline
                }
                LossCause::Damage => {
                    counters.killed_for_damage.add(1);
                    Kind::KilledForDamage
                }
                LossCause::Death => Kind::Death,
            };
            common.events.note(kind, who, format!("it {exit}"));
            tracing::warn!(pool = self.shared.id, worker = seat, pid, %exit, "a worker died");
        } else if was_retiring && self.shared.stage() < Stage::Terminating && self.kill_at.is_none()
        {
            counters.recycles.add(1);
            let text = "it has run its tasks, and is replaced".to_owned();
            common.events.note(Kind::Recycle, who, text);
        }
    }
}
