//! Recovery: one pass over the words finds all that a dead worker held.
//!
//! `table/README.md` has the table of states and what becomes of each.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::shm::Region;
use crate::sync::lock;
use crate::sys::clock::monotonic_ns;
use crate::table::{Call, State, StateWord, WorkerId};
use crate::task::{LossCause, TaskError, WorkerExit, WorkerLost};
use crate::worker::MAX_FAILURE_TEXT;

use super::delivery::Deliveries;
use super::entry::Pending;
use super::receive::Received;
use super::{HostQueue, QueueState};

/// A task that is claimed this often by workers that die at once is not tried again.
const MAX_CLAIM_LOSSES: u32 = 3;

/// A dead worker, as far as the tasks it had are concerned.
#[derive(Clone, Debug)]
pub(crate) struct DeadWorker {
    pub(crate) id: WorkerId,
    pub(crate) seat: u32,
    pub(crate) pid: u32,
    pub(crate) exit: WorkerExit,
    pub(crate) cause: LossCause,
}

/// What becomes of a task whose worker died while it ran.
pub(super) enum Fate {
    Retry,
    Lost,
}

impl HostQueue {
    /// Recovers what the dead worker held. The worker is reaped, so it writes no more. Returns true
    /// if it held anything: only a worker that was ready does.
    pub(crate) fn recover(&self, dead: &DeadWorker) -> bool {
        let slot = usize::from(dead.id.slot);
        let mut deliveries = Deliveries::default();
        let mut lanes = lock(&self.lanes);
        // Not after the scan: a push that happens meanwhile must not choose the dead sleeper.
        lanes.control.bells().forget(slot);
        self.drain_lanes(&mut lanes, &mut deliveries);
        let mut state = self.lock();
        let control = Arc::clone(&state.control);
        let owned = state.owned_by(slot);
        let held_any = !owned.is_empty();
        let running = owned.iter().filter(|(_, word)| word.state() == Some(State::Running)).count();
        let mut received = Received::new(&mut deliveries);
        for (index, word) in owned {
            match word.state() {
                Some(State::Claimed) => {
                    self.requeue_claimed(&mut state, index, dead, received.deliveries)
                }
                Some(State::Running) => {
                    self.lose_running(&mut state, index, dead, running, received.deliveries);
                }
                Some(State::Done) => {
                    let lane = &mut lanes.lanes[slot];
                    self.receive(&control, &mut state, lane, slot, index, &mut received);
                }
                // CANCELLING: delivered when it was cancelled, or a scribble.
                _ => {
                    let what = format!("CANCELLING as the state of record {index}");
                    self.carry_over(&mut state, index, false, &what, received.deliveries);
                }
            }
        }
        self.note_pending(&state);
        let woken = state.take_waiting();
        let control = Arc::clone(&state.control);
        drop(state);
        let Received { deliveries, large, blocks } = received;
        for (slot, large) in large {
            self.receive_large(&control, &mut lanes.lanes[slot], slot, large, deliveries);
        }
        let lane = &mut lanes.lanes[slot];
        lane.arena = None;
        lane.backlog.clear();
        // A word that the dead worker spoiled is no concern of the next incarnation.
        let words = control.lane(slot).iter().chain(control.handback(slot));
        words.for_each(|word| word.store(0, crate::sync::atomic::Ordering::Relaxed));
        // Nor is what it had spoiled, which the drain above may have met once more.
        lock(&self.damage).retain(|(damaged, _)| *damaged != slot);
        self.release(lanes);
        blocks.into_iter().for_each(|block| self.common.inputs.free(block));
        woken.into_iter().for_each(Waker::wake);
        self.deliver(deliveries);
        // The dead worker may have been rung for a task, or may have had to ring another worker.
        self.ring_all();
        held_any
    }

    /// Ends every task that is left with the death of the only worker there was to be.
    pub(crate) fn lose_all(&self, dead: &DeadWorker) {
        let mut deliveries = Deliveries::default();
        let mut state = self.lock();
        for index in 0..state.entries.len() {
            if let Some(pending) = state.take_pending(index) {
                let error = self.lost(&pending, dead, Duration::ZERO);
                deliveries.push_error(&mut state.receivers, &pending, error);
            }
        }
        self.note_pending(&state);
        drop(state);
        self.deliver(&mut deliveries);
    }

    /// Returns where a new incarnation in `slot` starts, with its result arena: the positions of
    /// its lane and of its hand-back lane.
    pub(crate) fn prepare(&self, slot: usize, arena: Arc<Region>) -> (u64, u64) {
        let mut lanes = lock(&self.lanes);
        let control = Arc::clone(&lanes.control);
        let lane = &mut lanes.lanes[slot];
        lane.arena = Some(arena);
        control.attention(slot).reset();
        lane.lent = 0;
        control.lent(slot).store(0, crate::sync::atomic::Ordering::Relaxed);
        control.report(slot).reset(lane.handback.position());
        let starts = (lane.reader.position(), lane.handback.position());
        self.release(lanes);
        starts
    }

    /// Forgets what was prepared for a worker that never came to be.
    pub(crate) fn unprepare(&self, slot: usize) {
        let mut lanes = lock(&self.lanes);
        lanes.lanes[slot].arena = None;
        self.release(lanes);
    }

    /// Returns the text that a worker left in its result arena before it gave up.
    pub(crate) fn failure_text(&self, slot: usize) -> Option<String> {
        let lanes = lock(&self.lanes);
        let (block, len) = lanes.control.report(slot).text();
        let arena = lanes.lanes[slot].arena.clone();
        self.release(lanes);
        let arena = arena?;
        let len = (len as usize).min(MAX_FAILURE_TEXT);
        block.holds(len, arena.len()).then(|| {
            let mut bytes = Vec::new();
            arena.read_to(block.offset(), len, &mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    /// CLAIMED by the dead: no user code ran, so the task is queued again, silently.
    fn requeue_claimed(
        &self,
        state: &mut QueueState,
        index: usize,
        dead: &DeadWorker,
        deliveries: &mut Deliveries,
    ) {
        let Some(mut pending) = state.take_pending(index) else {
            return self.free_of_dead(state, index);
        };
        pending.claim_losses += 1;
        if pending.claim_losses >= MAX_CLAIM_LOSSES && dead.cause == LossCause::Death {
            pending.earlier.push(format!(
                "claimed {} times by workers that died before they ran it",
                pending.claim_losses
            ));
            return self.lose(state, index, pending, dead, Duration::ZERO, deliveries);
        }
        self.common.counters.requeued.add(1);
        self.put_back(state, index, pending, 0);
    }

    /// RUNNING in the dead worker: a retry where the caller allowed one, else the end.
    fn lose_running(
        &self,
        state: &mut QueueState,
        index: usize,
        dead: &DeadWorker,
        running: usize,
        deliveries: &mut Deliveries,
    ) {
        let started = state.control.records()[index].started();
        let Some(mut pending) = state.take_pending(index) else {
            return self.free_of_dead(state, index);
        };
        let ran = Duration::from_nanos(monotonic_ns().saturating_sub(started));
        let alone = running == 1;
        match fate(&mut pending, dead, alone) {
            Fate::Retry => {
                pending.earlier.push(format!(
                    "worker {} (pid {}) {} after {ran:?}",
                    dead.seat, dead.pid, dead.exit
                ));
                pending.attempts += 1;
                self.common.counters.retries.add(1);
                // A suspect runs alone; who fell with a known culprit does not have to.
                let flags = if dead.cause == LossCause::Death { Call::ALONE } else { 0 };
                if pending.options.retries_at_once() || dead.cause != LossCause::Death {
                    self.put_back(state, index, pending, flags);
                } else {
                    state.help_past(index);
                    state.describe_again(index, pending.function, flags | Call::tag(pending.task));
                    self.hold(state, index, pending);
                }
            }
            Fate::Lost => self.lose(state, index, pending, dead, ran, deliveries),
        }
    }

    fn lose(
        &self,
        state: &mut QueueState,
        index: usize,
        pending: Pending,
        dead: &DeadWorker,
        running: Duration,
        deliveries: &mut Deliveries,
    ) {
        self.free_of_dead(state, index);
        let error = self.lost(&pending, dead, running);
        deliveries.push_error(&mut state.receivers, &pending, error);
    }

    fn lost(&self, pending: &Pending, dead: &DeadWorker, running: Duration) -> TaskError {
        let lost = WorkerLost {
            task: pending.task,
            function: self.common.inputs.function_name(pending.function).to_owned(),
            worker: dead.seat,
            pid: dead.pid,
            exit: dead.exit.clone(),
            cause: dead.cause,
            attempt: pending.attempts,
            attempts_allowed: pending.options.retries + 1 + pending.spared,
            running,
            earlier: pending.earlier.to_vec(),
        };
        TaskError::WorkerLost(Box::new(lost))
    }
}

fn fate(pending: &mut Pending, dead: &DeadWorker, alone: bool) -> Fate {
    let retries = pending.options.retries;
    if retries == 0 {
        return Fate::Lost;
    }
    // Killed because of another task, or one of several suspects: no attempt is lost.
    if dead.cause == LossCause::NeighbourTimedOut || !alone {
        pending.spared += 1;
        return Fate::Retry;
    }
    pending.failures += 1;
    if pending.failures > retries { Fate::Lost } else { Fate::Retry }
}

impl QueueState {
    /// Returns the records in use that `slot`'s worker owns, with their words, each read once.
    fn owned_by(&self, slot: usize) -> Vec<(usize, StateWord)> {
        let records = self.control.records();
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.in_use)
            .map(|(index, _)| (index, records[index].state()))
            .filter(|(index, word)| {
                let owned = matches!(
                    word.state(),
                    Some(State::Claimed | State::Running | State::Done | State::Cancelling)
                );
                owned && word.owner().slot() == slot && self.entries[*index].knows(*word)
            })
            .collect()
    }
}
