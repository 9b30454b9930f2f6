//! A worker's start, from its order to the moment at which it can take tasks, and its limit.

use std::io::Write;
use std::time::Duration;

use crate::control::Phase;
use crate::launch::StartMethod;
use crate::table::WorkerId;
use crate::task::LossCause;

use super::Supervisor;
use super::crew::{Crew, Member};

/// A start that takes longer is reported once. Most take milliseconds, but a worker that imports a
/// large library or loads a model takes seconds, and its user should know what the pool waits for.
const SLOW: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Takes note of workers that are ready or retiring.
    pub(super) fn read_phases(&mut self, now: u64) {
        let mut proved = false;
        let mut damaged = Vec::new();
        let Crew { seats, slots } = &mut self.crew;
        for worker in slots.iter_mut().flatten().filter_map(|slot| slot.worker.as_mut()) {
            let WorkerId { queue, slot, .. } = worker.id;
            let control = self.shared.queues[usize::from(queue)].control();
            let report = control.report(usize::from(slot));
            let phase = report.phase();
            if phase.is_none() {
                // Perhaps another worker's doing, which would do it to each replacement.
                damaged.push((queue, format!("no phase in the report of slot {slot}")));
            }
            let seat = &mut seats[worker.seat as usize];
            // Its phase may have been overwritten before this reading.
            let is_ready = matches!(phase, Some(Phase::Ready | Phase::Retiring | Phase::Leaving));
            if (is_ready || report.has_completed()) && !worker.ready {
                worker.ready = true;
                proved = true;
            }
            if matches!(phase, Some(Phase::Retiring | Phase::Leaving)) && !worker.retiring {
                worker.retiring = true;
                seat.proved();
                seat.vacate(now);
            }
        }
        if proved {
            self.init_failures = 0;
            self.zygote.proved();
        }
        let is_ready = |worker: &&Member| worker.ready && worker.death.is_none();
        self.shared.set_ready(self.crew.workers().filter(is_ready).count());
        damaged.into_iter().for_each(|(queue, what)| self.condemn(usize::from(queue), what));
    }

    /// Reports workers that are slow to start, and has those killed that are past the limit.
    pub(super) fn limit_starts(&mut self, now: u64) {
        if self.kill_at.is_some() {
            return; // The grace period limits them.
        }
        let limit = self.shared.plan.start_timeout;
        let mut late = Vec::new();
        for worker in self.crew.starting_mut() {
            let Some(process) = &worker.process else { continue };
            let since = Duration::from_nanos(now.saturating_sub(worker.ordered_ns));
            let WorkerId { queue, slot, .. } = worker.id;
            if since >= SLOW.min(limit)
                && self.shared.queues[usize::from(queue)].has_tasks_of(usize::from(slot))
            {
                // Its phase was overwritten before it was read.
                worker.ready = true;
                continue;
            }
            if since >= limit {
                let text = format!(
                    "worker {} (pid {}) could take no task within {limit:?}: {}; a start that \
                     needs longer: start_timeout",
                    worker.seat,
                    process.pid,
                    self.shared.plan.what_starts()
                );
                tracing::warn!(pool = self.shared.id, worker = worker.seat, "{text}");
                worker.late = Some(text);
                late.push(worker.id);
            } else if since >= SLOW && !worker.slow {
                worker.slow = true;
                let what = self.shared.plan.what_starts();
                let (seat, pid) = (worker.seat, process.pid);
                tracing::warn!(pool = self.shared.id, worker = seat, pid, what, "a slow start");
                if !tracing::dispatcher::has_been_set() {
                    // Otherwise a pool whose initializer hangs would be silent until the limit.
                    let _ = writeln!(
                        std::io::stderr(),
                        "aiopool: worker {seat} (pid {pid}) can take no task after {SLOW:?}: \
                         {what}; it is killed after {limit:?} (start_timeout)"
                    );
                }
            }
        }
        for WorkerId { queue, slot, .. } in late {
            self.kill(usize::from(queue), usize::from(slot), None, LossCause::Death);
        }
    }

    /// When [`limit_starts`](Self::limit_starts) has something to do next.
    pub(super) fn next_start_limit(&self) -> Option<u64> {
        if self.kill_at.is_some() {
            return None;
        }
        let limit = self.shared.plan.start_timeout;
        let starting = self.crew.starting().filter(|worker| worker.process.is_some());
        starting
            .map(|worker| {
                let next = if worker.slow { limit } else { limit.min(SLOW) };
                worker.ordered_ns.saturating_add(u64::try_from(next.as_nanos()).unwrap_or(u64::MAX))
            })
            .min()
    }
}

impl super::Plan {
    /// Says what a worker does before it can take tasks.
    fn what_starts(&self) -> String {
        match (&self.start, self.initializer) {
            (StartMethod::Command(command) | StartMethod::Preloaded(command), _) => format!(
                "the command {command:?} has not attached to the pool, or has not finished its \
                 initializer (a worker is a program that calls aiopool_worker_attach or \
                 AttachedWorker)"
            ),
            (_, Some(name)) => format!("its initializer `{name}` has not returned"),
            (_, None) if self.worker.initializer.is_some() => {
                "its initializer has not returned".to_owned()
            }
            (_, None) => "its process has not got that far (it is stopped, or what it executes \
                          before main takes that long)"
                .to_owned(),
        }
    }
}
