//! What a worker has in hand, and whether it may take more: alike for the pool's own loop (`root`)
//! and for a program with a loop of its own (`attached`).
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::control::Phase;
use crate::sys::requests;
use crate::table::{Call, StateWord};
use crate::task::Status;

use super::claimed::Claimed;
use super::engine::{Engine, Look, NoRoom, Said};

/// A task that was started and is not over.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its claim.
    pub(crate) task: Claimed,
    /// When it was started.
    pub(crate) started: u64,
    /// An outcome that waits for room in the result arena; nothing else is left of the task then.
    unplaced: Option<Box<Unplaced>>,
}

/// Boxed where it is: it is rare.
#[derive(Debug)]
struct Unplaced {
    status: Status,
    output: Vec<u8>,
    elapsed_ns: u64,
}

impl Held {
    /// Returns a task that was started at `started`.
    pub(crate) fn new(task: Claimed, started: u64) -> Self {
        Self { task, started, unplaced: None }
    }

    /// Returns whether the task has ended, and only its outcome waits for room.
    pub(super) fn is_over(&self) -> bool {
        self.unplaced.is_some()
    }
}

/// What decides over the next claim.
#[derive(Debug)]
pub(super) struct InHand {
    /// Tasks it may still claim; `None` for no limit.
    claims_left: Option<u64>,
    /// A suspect is in flight: nothing else may be.
    alone: bool,
    /// The task at the head must run alone and this worker has others: nothing to claim for now.
    refused: bool,
    /// Outputs that wait for room.
    unplaced: usize,
    /// The host rings when it hands a block back, so that memory can go back to the system.
    awaits_blocks: bool,
    /// Tasks that the host has claimed for this worker, to be started.
    assigned: VecDeque<Claimed>,
}

impl InHand {
    /// Returns the state of a worker that may claim `max_tasks` in all; 0 for no limit.
    pub(super) fn new(max_tasks: u64) -> Self {
        let claims_left = (max_tasks > 0).then_some(max_tasks);
        Self {
            claims_left,
            alone: false,
            refused: false,
            unplaced: 0,
            awaits_blocks: false,
            assigned: VecDeque::new(),
        }
    }

    /// Returns whether another task may be claimed, if there is a place for it.
    #[inline]
    pub(super) fn admits(&self) -> bool {
        let may_claim = !self.refused && self.claims_left != Some(0);
        !self.alone && (may_claim || !self.assigned.is_empty())
    }

    /// Returns whether the worker has claimed as many tasks as it may.
    #[inline]
    pub(super) fn has_claimed_all(&self) -> bool {
        self.claims_left == Some(0) && self.assigned.is_empty()
    }

    /// Takes no more tasks once the process was asked by `SIGTERM` to retire.
    #[inline]
    pub(super) fn retire_if_asked(&mut self, engine: &mut Engine) {
        if self.must_retire() {
            self.claims_left = Some(0);
            engine.set_phase(Phase::Retiring);
        }
    }

    /// Returns whether the process was asked to retire, and has not begun to.
    #[inline]
    pub(super) fn must_retire(&self) -> bool {
        requests::must_retire() && self.claims_left != Some(0)
    }

    /// Claims a task, `idle` if nothing is in flight. `None` if there is none that may be taken.
    #[inline]
    pub(super) fn claim(&mut self, engine: &mut Engine, idle: bool) -> Option<Claimed> {
        if let Some(task) = self.assigned.pop_front() {
            return Some(task);
        }
        match engine.claim(idle) {
            Look::Task(task) => Some(task),
            Look::Nothing => None,
            Look::MustBeAlone => {
                self.refused = true;
                None
            }
        }
    }

    /// Starts a claimed task; false if the host has cancelled it, which is then confirmed.
    #[inline]
    pub(super) fn start(&mut self, engine: &mut Engine, task: &mut Claimed, now: u64) -> bool {
        if !engine.start(task, now) {
            return false;
        }
        if let Some(left) = &mut self.claims_left
            && *left > 0
        {
            *left -= 1;
            if *left == 0 {
                engine.set_phase(Phase::Retiring);
            }
        }
        true
    }

    /// Takes note of a task that stays in flight.
    pub(super) fn keep(&mut self, call: Call) {
        self.alone = call.flags & Call::ALONE != 0;
    }

    /// Takes note of a task that is gone: the one at the head may be claimed now.
    pub(super) fn vacated(&mut self) {
        self.alone = false;
        self.refused = false;
    }

    /// Forgets that the task at the head was refused: another may be there by now.
    pub(super) fn ask_again(&mut self) {
        self.refused = false;
    }

    /// Keeps the outcome of a task until there is room, and tells the host that it waits.
    #[cold]
    pub(super) fn keep_outcome(
        &mut self,
        engine: &Engine,
        held: &mut Held,
        (status, output, elapsed_ns): (Status, Vec<u8>, u64),
    ) {
        // It stays RUNNING until the host hands blocks back, and is tried once more after the
        // host knows that an output waits.
        held.unplaced = Some(Box::new(Unplaced { status, output, elapsed_ns }));
        self.unplaced += 1;
        engine.set_wants_room(true);
    }

    /// Tries once more to place outputs that found no room; returns the keys of tasks that are gone
    /// now.
    #[inline]
    pub(super) fn place_outputs<'h, K>(
        &mut self,
        engine: &mut Engine,
        held: impl Iterator<Item = (K, &'h mut Held)>,
    ) -> Vec<K> {
        let mut placed = Vec::new();
        if self.unplaced == 0 {
            return placed;
        }
        for (key, held) in held {
            let Some(unplaced) = held.unplaced.take() else { continue };
            let Unplaced { status, output, elapsed_ns } = &*unplaced;
            match engine.complete(held.task, *status, output, *elapsed_ns) {
                Ok(()) => {
                    self.unplaced -= 1;
                    placed.push(key);
                }
                Err(NoRoom) => held.unplaced = Some(unplaced),
            }
        }
        if self.unplaced == 0 {
            engine.set_wants_room(false);
            self.awaits_blocks = false;
        }
        placed
    }

    /// With nothing in flight: gives memory of the result arena that no output is in back to the
    /// system. While outputs are out, the host rings for each block that it hands back.
    pub(super) fn give_memory_back(&mut self, engine: &Engine) {
        if !engine.outputs().give_back() {
            if std::mem::take(&mut self.awaits_blocks) {
                engine.set_wants_room(false);
            }
        } else if !std::mem::replace(&mut self.awaits_blocks, true) {
            engine.set_wants_room(true);
            // Once more: what the host handed back before it saw that.
            engine.outputs().give_back();
        }
    }

    /// Reads what the host has asked for: answers an audit's question about the tasks that this
    /// worker has, and returns the keys of those that the host has cancelled.
    #[inline]
    pub(super) fn attend<'h, K, I>(
        &mut self,
        engine: &mut Engine,
        held: impl Fn() -> I,
    ) -> Vec<(K, StateWord)>
    where
        I: Iterator<Item = (K, &'h Held)>,
    {
        let Some(Said { asks: what_it_has, assigns }) = engine.attention() else {
            return Vec::new();
        };
        if assigns {
            let waits = |record| self.assigned.iter().any(|task| task.record == record);
            let has = |record| held().any(|(_, has)| has.task.record == record);
            let assigned = engine.assigned(|record| has(record) || waits(record));
            self.assigned.extend(assigned);
        }
        if what_it_has {
            let waits = |record| self.assigned.iter().any(|task| task.record == record);
            let has = |record| held().any(|(_, has)| has.task.record == record);
            engine.answer(|record| has(record) || waits(record));
        }
        held().filter_map(|(key, held)| Some((key, engine.is_cancelled(&held.task)?))).collect()
    }

    /// Drops the outcome of a cancelled task, if it was kept; true if it was.
    pub(super) fn drop_outcome(&mut self, held: &mut Held) -> bool {
        let kept = held.unplaced.take().is_some();
        self.unplaced -= usize::from(kept);
        kept
    }
}
