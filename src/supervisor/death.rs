//! The end of a worker: its tasks are recovered, its death is counted, and its seat is freed.

use std::sync::Arc;

use crate::control::Phase;
use crate::error::Error;
use crate::launch::{errors_of, last_words};
use crate::queue::{DeadWorker, Held};
use crate::scheduler::ProcessInfo;
use crate::table::WorkerId;
use crate::task::{LossCause, WorkerExit};
use crate::view::Kind;
use crate::worker::{EXIT_SETUP, file_of_task};

use super::crew::{DeathReport, Proof};
use super::{Respawn, Stage, Supervisor};

/// A worker that lived so long without a task was of use, in nanoseconds.
const UNPROVED_NS: u64 = 10_000_000_000;

/// Whether the end was the worker's own doing. An idle worker may be killed by any other process.
fn ended_by_itself(exit: &WorkerExit) -> bool {
    match exit {
        WorkerExit::Exited(_) | WorkerExit::NotStarted { .. } => true,
        WorkerExit::Signalled { signal, .. } => *signal != libc::SIGKILL,
        WorkerExit::OutOfMemory | WorkerExit::Unknown => false,
    }
}

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
        let printed = self.shared.plan.worker.printed.as_ref();
        let task = printed.and_then(|_| {
            // The worker has written it: any number.
            let record = report.busy_with().record()? as usize;
            Some(control.records().get(record)?.call().task())
        });
        let stderr = match (&self.shared.plan.output, task) {
            (Some(directory), Some(task)) => last_words(&file_of_task(directory, task, "err")),
            (Some(directory), None) => last_words(&errors_of(directory, worker.seat)),
            (None, _) => String::new(),
        };
        let dead = DeadWorker { id, seat: worker.seat, pid, exit: exit.clone(), cause, stderr };
        let planned =
            phase == Some(Phase::Leaving) && exit == WorkerExit::Exited(crate::worker::EXIT_OK);
        // First: a caller that has the outcome of a task that the worker held finds the death among
        // the pool's numbers and events.
        self.count_end(&dead, planned, worker.retiring);
        let Held { any: held_any, begun: began_any } = queue.recover(&dead);
        // A faulty process may have overwritten its phase before the supervisor read it.
        let was_ready = worker.ready || completed || held_any;
        // One that could not be set up has no initializer to blame.
        let is_setup = exit == WorkerExit::Exited(EXIT_SETUP);
        let setup = text.clone().filter(|_| is_setup);
        let failure = text.filter(|_| !was_ready && !is_setup);
        let common = &self.shared.common;
        common.counters.cpu_ns.add(cpu_ns as usize);
        let seat = &mut self.crew.seats[worker.seat as usize];
        if planned || worker.retiring {
            // The seat was freed when the worker began to retire.
        } else if worker.killed == Some(LossCause::Damage) {
            // The pool killed it, which says nothing about the next worker.
            seat.vacate(now);
        } else {
            let lived = now.saturating_sub(worker.ordered_ns);
            let idle = !began_any && lived < UNPROVED_NS && ended_by_itself(&exit);
            let proof = if completed {
                Proof::Completed
            } else if was_ready && !idle {
                Proof::Served
            } else {
                Proof::Nothing
            };
            seat.lost(now, proof);
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
            let how =
                setup.map_or_else(|| exit.to_string(), |why| format!("could not start: {why}"));
            self.fail(Error::NoWorkers(format!("before it took a task, the last one {how}")));
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
                LossCause::Death | LossCause::Replaced => Kind::Death,
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
