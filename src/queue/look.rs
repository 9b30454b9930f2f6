//! What observers see of a queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::control::{Phase, Polled};
use crate::ring::split_place;
use crate::shm::Region;
use crate::sync::lock;
use crate::table::{Call, State};
use crate::view::{QueueView, State as Doing};

use super::HostQueue;

/// Records that are read for one look, at most: a larger table is not read whole, since each
/// reading takes a line away from a worker. The host fills the first records first.
const MAX_RECORDS: usize = 65_536;
/// Entries at the head of a ring among which the oldest waiting task is looked for; those before
/// it are taken, and head lags behind.
const NEAR_HEAD: u64 = 64;

/// A task in a worker's hands, as shared memory has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) slot: usize,
    pub(crate) record: u32,
    pub(crate) call: Call,
    pub(crate) started: u64,
    pub(crate) cancelling: bool,
}

/// What a worker slot's own line says, and the doorbell of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotLook {
    pub(crate) phase: Option<Phase>,
    /// Tasks that the host has received of it.
    pub(crate) completed: u64,
    pub(crate) polled: Polled,
    pub(crate) sleeps: bool,
    pub(crate) searches: bool,
}

impl HostQueue {
    /// Returns the queue's numbers at `now`.
    pub(crate) fn view(&self, now: u64) -> QueueView {
        // Before the lock: the system is asked for each.
        let output_bytes = self.outputs().iter().map(|arena| arena.taken()).sum();
        let state = self.lock();
        let mut oldest = None::<u64>;
        let mut depth = Vec::with_capacity(state.control.classes());
        for class in 0..state.control.classes() {
            let (ring, tail) = (state.control.ring(class), state.tails[class]);
            let head = ring.head().min(tail);
            let waiting = (head..tail.min(head + NEAR_HEAD)).find_map(|position| {
                let entry = state.entries.get(ring.hint(position)? as usize)?;
                let record = &state.control.records()[ring.hint(position)? as usize];
                let is_queued = record.state().state() == Some(State::Queued);
                let is_it = entry.in_use && split_place(entry.place) == (class, position);
                (is_it && is_queued)
                    .then(|| entry.pending.as_ref().map(|task| task.submitted_ns))?
            });
            oldest = oldest.into_iter().chain(waiting).min();
            // What is cancelled or taken behind head is not waiting.
            depth.push((tail - head).min(state.pending as u64));
        }
        QueueView {
            queue: u32::from(self.index),
            pending: state.pending as u64,
            oldest_ns: oldest.map(|since| now.saturating_sub(since)),
            records: state.entries.len() as u64,
            free_records: (state.free.len() + state.deferred.len()) as u64,
            output_bytes,
            depth,
            ..QueueView::default()
        }
    }

    /// Returns the result arenas of its workers.
    fn outputs(&self) -> Vec<Arc<Region>> {
        lock(&self.lanes).lanes.iter().filter_map(|lane| lane.arena.clone()).collect()
    }

    /// Returns the tasks that workers have, at a moment of each one's own.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        if !self.has_records_out() {
            return Vec::new();
        }
        let control = self.control();
        let records = control.records().iter().take(MAX_RECORDS).enumerate();
        let taken = records.filter_map(|(index, record)| {
            let word = record.state();
            let (call, started) = (record.call(), record.started());
            let is_taken =
                matches!(word.state(), Some(State::Claimed | State::Running | State::Cancelling));
            // Its worker may have finished it meanwhile, and the host used the record again.
            (is_taken && record.state() == word).then(|| Taken {
                slot: word.owner().slot(),
                record: index as u32,
                call,
                // Until then the word says when it was queued.
                started: if word.state() == Some(State::Claimed) { 0 } else { started },
                cancelling: word.state() == Some(State::Cancelling),
            })
        });
        taken.collect()
    }

    /// Counts a task that the worker in `slot` has finished; the queue's mutex is held, so no other
    /// thread writes meanwhile.
    #[inline]
    pub(super) fn note_done(&self, slot: usize) {
        let done = &self.done[slot];
        done.store(done.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Returns what the worker in `slot` says of itself.
    pub(crate) fn look_at(&self, slot: usize) -> SlotLook {
        let control = self.control();
        let (report, bells) = (control.report(slot), control.bells());
        SlotLook {
            phase: report.phase(),
            completed: self.done[slot].load(Ordering::Relaxed) as u64,
            polled: report.busy_with(),
            sleeps: bells.sleeps(slot),
            searches: bells.searches(slot),
        }
    }
}

impl SlotLook {
    /// Returns what the worker does, which has `in_flight` tasks and has polled one for `polling`
    /// nanoseconds, if it polls; `runs` if it has a processor or waits for one.
    pub(crate) fn state(&self, in_flight: usize, polling: Option<u64>, runs: bool) -> Doing {
        /// A poll that lasts this long blocks the others: a task that computes does so for less,
        /// or is better off alone in its worker.
        const BLOCKED_NS: u64 = 100_000_000;
        match (self.phase, polling) {
            (Some(Phase::Starting), _) => Doing::Starting,
            (Some(Phase::Retiring), _) => Doing::Retiring,
            (Some(Phase::Leaving | Phase::InitFailed) | None, _) => Doing::Leaving,
            (Some(Phase::Ready), Some(since)) if since >= BLOCKED_NS => Doing::Blocked,
            (Some(Phase::Ready), Some(_)) => Doing::Polling,
            (Some(Phase::Ready), None) if in_flight > 0 && (self.sleeps || !runs) => Doing::Waiting,
            (Some(Phase::Ready), None) if in_flight > 0 => Doing::Busy,
            (Some(Phase::Ready), None) if self.searches => Doing::Searching,
            (Some(Phase::Ready), None) => Doing::Idle,
        }
    }
}
