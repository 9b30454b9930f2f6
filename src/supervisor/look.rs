//! A pool at one moment, for its owner and for observers.

use std::collections::BTreeMap;

use crate::queue::Taken;
use crate::sync::lock;
use crate::sys::clock::{cpu_ns_of, monotonic_ns};
use crate::sys::usage;
use crate::view::{PoolView, QueueView, Snapshot, State, TaskView, WorkerView};

use super::seen::{Known, Memory};
use super::shared::WorkerInfo;
use super::{Shared, Stage};

/// Tasks of a worker that are listed.
const LISTED: usize = 64;
/// Nanoseconds between two measurements of a worker's PSS, which cost its kernel a walk through
/// its pages.
const PSS_NS: u64 = 5_000_000_000;
/// Workers whose PSS one look measures.
const PSS_AT_ONCE: usize = 4;

impl Shared {
    /// Returns the pool as it is now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        // As for the counts.
        if !self.is_owner() {
            return Snapshot::default();
        }
        let memory = &mut *lock(&self.looks);
        let now = monotonic_ns();
        let (event_count, events) = self.common.events.list(now);
        let mut workers = self.workers();
        workers.sort_by_key(|worker| (worker.seat, worker.ordered_ns));
        let queues: Vec<QueueView> = self
            .queues
            .iter()
            .enumerate()
            .map(|(index, queue)| QueueView {
                workers: self.alive_on(index) as u64,
                ..queue.view(now)
            })
            .collect();
        let workers = self.workers_at(&workers, now, memory);
        let mut stats = self.stats();
        let mut functions = std::mem::take(&mut stats.functions);
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        let stage = match self.stage() {
            Stage::Open => "open",
            Stage::Closed => "closed",
            Stage::Terminating => "terminating",
            Stage::Ended => "ended",
        };
        let pool = PoolView {
            name: self.name.clone(),
            number: self.id as u64,
            host_pid: self.pid,
            program: program(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stage: stage.to_owned(),
            age_ns: now.saturating_sub(self.built_ns),
            processes: u64::from(self.plan.processes),
            input_arena: self.common.inputs.size() as u64,
            event_count,
            stats,
        };
        Snapshot { pool, workers, queues, functions, events }
    }

    fn workers_at(&self, workers: &[WorkerInfo], now: u64, memory: &mut Memory) -> Vec<WorkerView> {
        let mut taken: BTreeMap<(u16, usize), Vec<Taken>> = BTreeMap::new();
        for (queue, tasks) in self.queues.iter().map(|queue| queue.taken()).enumerate() {
            for task in tasks {
                taken.entry((queue as u16, task.slot)).or_default().push(task);
            }
        }
        memory.workers.retain(|pid, _| workers.iter().any(|worker| worker.pid == *pid));
        let mut to_measure = PSS_AT_ONCE;
        let none = Vec::new();
        let view = |worker: &WorkerInfo| {
            let key = (worker.queue, usize::from(worker.slot));
            let known = memory.workers.entry(worker.pid).or_default();
            if to_measure > 0 && known.measured + PSS_NS <= now {
                (known.pss, known.measured) = (usage::pss_bytes_of(worker.pid), now);
                to_measure -= 1;
            }
            self.worker_at(worker, taken.get(&key).unwrap_or(&none), now, known)
        };
        workers.iter().map(view).collect()
    }

    fn worker_at(
        &self,
        worker: &WorkerInfo,
        taken: &[Taken],
        now: u64,
        known: &mut Known,
    ) -> WorkerView {
        let look = self.queues[usize::from(worker.queue)].look_at(usize::from(worker.slot));
        if known.polled != look.polled {
            (known.polled, known.since) = (look.polled, now);
        }
        let polled = look.polled.record();
        // No longer than the worker has had it: the poll began after that.
        let age = polled.and_then(|record| taken.iter().find(|task| task.record == record));
        let age = age.map(|task| now.saturating_sub(task.started));
        let polling_ns = age.map(|age| age.min(now.saturating_sub(known.since)));
        let usage = usage::of(worker.pid);
        let state = match usage.state {
            Some('T' | 't') => State::Stopped,
            _ => look.state(taken.len(), polling_ns, usage.state == Some('R')),
        };
        let tasks = taken.iter().take(LISTED).map(|task| TaskView {
            task: self.whole(task.call.task()),
            function: self.common.inputs.function_name(task.call.function).to_owned(),
            age_ns: if task.started == 0 { 0 } else { now.saturating_sub(task.started) },
            polled: polled == Some(task.record),
            cancelling: task.cancelling,
        });
        let (restarts, last_end) = self.common.events.of_seat(worker.seat);
        WorkerView {
            seat: worker.seat,
            pid: worker.pid,
            queue: u32::from(worker.queue),
            state,
            polling_ns,
            age_ns: now.saturating_sub(worker.ordered_ns),
            done: look.completed,
            in_flight: taken.len() as u64,
            tasks: tasks.collect(),
            cpu_ns: cpu_ns_of(worker.pid),
            rss_bytes: usage.rss_bytes,
            pss_bytes: known.pss,
            restarts,
            last_end,
        }
    }

    /// Returns the number of a task of which a record has the low 31 bits: of the last one with
    /// those.
    pub(super) fn whole(&self, low: u32) -> u64 {
        const BITS: u64 = 1 << 31;
        let next = self.next_task.load(std::sync::atomic::Ordering::Relaxed) as u64;
        let task = next & !(BITS - 1) | u64::from(low);
        if task >= next && task >= BITS { task - BITS } else { task }
    }
}

/// Returns the name of this program.
pub(crate) fn program() -> String {
    let path = std::env::current_exe().ok();
    let name = path.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
    name.map_or_else(|| "?".to_owned(), |name| name.into_owned())
}
