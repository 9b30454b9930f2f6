//! Recovery: one pass over the state words finds all that a dead worker held.
//!
//! `table/README.md` has the table of states and what becomes of each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use crate::control::Polled;
use crate::shm::Region;
use crate::sync::lock;
use crate::sys::clock::monotonic_ns;
use crate::table::{State, StateWord, WorkerId};
use crate::task::{LossCause, TaskError, WorkerExit, WorkerLost};
use crate::worker::MAX_FAILURE_TEXT;

use super::again::Whose;
use super::delivery::{Deliveries, End};
use super::entry::{Pending, Ticket};
use super::receive::Received;
use super::{HostQueue, QueueState};

/// Claims by workers that died before they ran the task, after which it is not tried again.
const MAX_CLAIM_LOSSES: u32 = 3;

/// What the tasks of a dead worker report about it.
#[derive(Clone, Debug)]
pub(crate) struct DeadWorker {
    pub(crate) id: WorkerId,
    pub(crate) seat: u32,
    pub(crate) pid: u32,
    pub(crate) exit: WorkerExit,
    pub(crate) cause: LossCause,
    /// The last lines of its error output, where they are kept.
    pub(crate) stderr: String,
}

/// What a dead worker had of tasks; only one that was ready has any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) any: bool,
    /// It had begun one of them.
    pub(crate) begun: bool,
}

impl HostQueue {
    /// Recovers the tasks of a dead worker, which is reaped and so writes no more.
    pub(crate) fn recover(&self, dead: &DeadWorker) -> Held {
        let slot = usize::from(dead.id.slot);
        let mut deliveries = Deliveries::default();
        let mut lanes = lock(&self.lanes);
        // Before the scan: a push that happens meanwhile must not choose the dead sleeper.
        lanes.control.bells().forget(slot);
        self.drain_lanes(&mut lanes, &mut deliveries);
        let mut state = self.lock();
        let control = Arc::clone(&state.control);
        let owned = state.owned_by(slot);
        let begun = owned.iter().any(|(_, word)| word.state() != Some(State::Claimed));
        let held = Held { any: !owned.is_empty(), begun };
        let scene = Scene::of(&owned, control.report(slot).polled());
        let mut received = Received::new(&mut deliveries);
        for (index, word) in owned {
            let is_attempt = !state.entries[index].is_called_off();
            match word.state() {
                Some(State::Claimed) if is_attempt => {
                    self.requeue_claimed(&mut state, index, dead, received.deliveries)
                }
                Some(State::Running) if is_attempt => {
                    self.lose_running(&mut state, index, dead, scene, received.deliveries);
                }
                Some(State::Done) if !state.entries[index].held => {
                    let lane = &mut lanes.lanes[slot];
                    self.receive(&control, &mut state, lane, slot, index, &mut received);
                }
                // CANCELLING: delivered when it was cancelled, between two attempts, or a scribble,
                // as every other word is between two attempts.
                _ => {
                    let what = format!("{:#x} as the state of record {index}", word.bits());
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
        words.for_each(|word| word.store(0, Ordering::Relaxed));
        // Nor is damage that it did before, which the drain above may have reported again.
        lock(&self.damage).retain(|(damaged, _)| *damaged != slot);
        self.release(lanes);
        blocks.into_iter().for_each(|block| self.common.inputs.free(block));
        woken.into_iter().for_each(Waker::wake);
        self.deliver(deliveries);
        // The dead worker may have been rung for a task, or may have had to ring another worker.
        self.ring_all();
        held
    }

    /// Ends every pending task with the death of `dead`, the only worker that the pool was to have,
    /// and refuses those that are still to come.
    pub(crate) fn lose_all(&self, dead: &DeadWorker) {
        let mut deliveries = Deliveries::default();
        let mut state = self.lock();
        let DeadWorker { pid, exit, .. } = dead;
        state.orphaned = Some(format!("the only one (pid {pid}) {exit}, and it is not replaced"));
        let woken = state.room.close();
        for index in 0..state.entries.len() {
            if let Some(pending) = state.take_pending(index) {
                let error = self.lost(&pending, dead, Lost::UNSTARTED);
                deliveries.push_error(&mut state.receivers, &pending, error);
            }
        }
        self.note_pending(&state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        self.deliver(&mut deliveries);
    }

    /// Returns whether the worker in `slot` has tasks, which only one that is ready has.
    pub(crate) fn has_tasks_of(&self, slot: usize) -> bool {
        !self.lock().owned_by(slot).is_empty()
    }

    /// Prepares `slot` for a new incarnation with its result arena. Returns the positions at which
    /// its lane and its hand-back lane start.
    pub(crate) fn prepare(&self, slot: usize, arena: Arc<Region>) -> (u64, u64) {
        let mut lanes = lock(&self.lanes);
        let control = Arc::clone(&lanes.control);
        let lane = &mut lanes.lanes[slot];
        lane.arena = Some(arena);
        control.attention(slot).reset();
        lane.lent = 0;
        control.lent(slot).store(0, Ordering::Relaxed);
        control.report(slot).reset(lane.handback.position());
        self.done[slot].store(0, Ordering::Relaxed);
        control.processors().set_worker(slot, None);
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

    /// Queues a task again that the dead worker had claimed: no code of it ran.
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
        // A worker that left in order met with nothing of a task that was to run on it alone.
        let left = pending.assigned && dead.exit == WorkerExit::Exited(0);
        pending.claim_losses += u32::from(!left);
        if pending.claim_losses >= MAX_CLAIM_LOSSES && dead.cause == LossCause::Death {
            pending.earlier.push(format!(
                "claimed {} times by workers that died before they ran it",
                pending.claim_losses
            ));
            self.free_of_dead(state, index);
            let error = self.lost(&pending, dead, Lost::UNSTARTED);
            return deliveries.push_error(&mut state.receivers, &pending, error);
        }
        self.common.counters.requeued.add(1);
        if pending.assigned {
            // For the next worker on this seat, and no other.
            let ticket = Ticket { queue: self.index, record: index as u32, task: pending.task };
            state.set_pending(index, pending);
            state.hold(index);
            return lock(&self.unassigned).push((dead.seat, ticket));
        }
        self.put_back(state, index, pending);
    }

    /// Retries a task that ran in the dead worker, where its caller allowed that, or ends it.
    fn lose_running(
        &self,
        state: &mut QueueState,
        index: usize,
        dead: &DeadWorker,
        scene: Scene,
        deliveries: &mut Deliveries,
    ) {
        let record = &state.control.records()[index];
        let (started, progress) = (record.started(), record.progress(record.state().generation()));
        let Some(pending) = &state.entries[index].pending else {
            return self.free_of_dead(state, index);
        };
        let running = Duration::from_nanos(monotonic_ns().saturating_sub(started));
        let suspect = match dead.cause {
            LossCause::NeighbourTimedOut => scene.polled == Some(index),
            LossCause::Death | LossCause::Damage | LossCause::Replaced => scene.suspects(index),
        };
        if suspect && let Some(probation) = self.common.probation.get() {
            probation.note_suspicion(pending.function);
        }
        let lost = Lost { running, suspect, progress };
        let of_itself = matches!(dead.cause, LossCause::Death | LossCause::Replaced);
        let end = End {
            error: self.lost(pending, dead, lost),
            counts: match dead.cause {
                // The pool killed the worker because of a task that held it.
                LossCause::NeighbourTimedOut => suspect,
                // Only a death while alone counts.
                LossCause::Death | LossCause::Damage | LossCause::Replaced => scene.running == 1,
            },
            // A suspect runs alone, and a bystander that met with that before.
            alone: of_itself && (suspect || pending.spared > 0),
            at_once: pending.options.retries_at_once() || !of_itself,
        };
        if let Some(error) = self.end_attempt(state, index, Whose::Host, end, deliveries)
            && let Some(pending) = state.take_pending(index)
        {
            self.free_of_dead(state, index);
            deliveries.push_error(&mut state.receivers, &pending, error);
        }
    }

    fn lost(&self, pending: &Pending, dead: &DeadWorker, lost: Lost) -> TaskError {
        let Lost { running, suspect, progress } = lost;
        let lost = WorkerLost {
            task: pending.task,
            function: self.common.inputs.function_name(pending.function).to_owned(),
            worker: dead.seat,
            pid: dead.pid,
            exit: dead.exit.clone(),
            cause: dead.cause,
            attempt: pending.attempt(),
            attempts_allowed: pending.options.retries.saturating_add(1) + pending.spared,
            running,
            suspect,
            progress,
            stderr: dead.stderr.clone(),
            earlier: pending.earlier.to_vec(),
        };
        TaskError::WorkerLost(Box::new(lost))
    }
}

/// What is known of one task in a dead worker.
#[derive(Clone, Copy, Debug)]
struct Lost {
    running: Duration,
    suspect: bool,
    progress: Option<u64>,
}

impl Lost {
    /// Of a task that never ran in it.
    const UNSTARTED: Self = Self { running: Duration::ZERO, suspect: true, progress: None };
}

/// What was running when a worker died.
#[derive(Clone, Copy, Debug)]
struct Scene {
    /// Tasks that had been started and were not over.
    running: usize,
    /// The one of them whose future was being polled, if the worker said so.
    polled: Option<usize>,
}

impl Scene {
    fn of(owned: &[(usize, StateWord)], polled: Polled) -> Self {
        let running = owned.iter().filter(|(_, word)| word.state() == Some(State::Running)).count();
        let polled = polled.record().map(|index| index as usize);
        // A worker's word: believed only where it names a task that could have been the cause.
        let could = [State::Running, State::Cancelling].map(Some);
        let polled = polled.filter(|&at| {
            owned.iter().any(|(index, word)| *index == at && could.contains(&word.state()))
        });
        Self { running, polled }
    }

    /// Returns whether the task of record `index` may have been the cause.
    fn suspects(&self, index: usize) -> bool {
        self.polled.is_none_or(|polled| polled == index)
    }
}

impl QueueState {
    /// Returns the records that the worker in `slot` owns, with their state words, each read once.
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
