//! The host of the models: the rules of `docs/design.md` §5 over a private table.

use crate::ring::{LaneReader, Next, help_past_stale, place};
use crate::table::{Call, CancelResult, InputDesc, Place, State, StateWord};

use super::Queue;
use super::worker::output_of;

/// What a task ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Cancelled,
    WorkerLost,
}

/// The host's own entry for a record: what it knows without asking shared memory.
#[derive(Clone, Copy, Default)]
struct Entry {
    generation: u32,
    /// Where its newest ring entry is.
    position: Option<u64>,
    /// The record is in use: no outcome, or not given back yet.
    used: bool,
    /// The task that waits for its outcome.
    pending: Option<usize>,
}

/// The host.
pub(super) struct Host {
    tail: u64,
    entries: Vec<Entry>,
    lanes: Vec<LaneReader>,
    outcomes: Vec<Vec<Outcome>>,
    retries: bool,
}

impl Host {
    /// Creates a host of `queue`, which is unused so far.
    pub(super) fn new(queue: &Queue) -> Self {
        Self {
            tail: 0,
            entries: vec![Entry::default(); queue.records.len()],
            lanes: queue.lanes.iter().map(|_| LaneReader::at(0)).collect(),
            outcomes: vec![Vec::new(); queue.runs.len()],
            retries: false,
        }
    }

    /// From now on tasks run again when their worker dies.
    pub(super) fn allow_retries(&mut self) {
        self.retries = true;
    }

    /// Submits `task` if there is room, helping head past stale entries to make some.
    pub(super) fn try_submit(&mut self, queue: &Queue, task: usize) -> bool {
        let index = match self.room(queue) {
            Some(index) => index,
            None => {
                help_past_stale(queue.ring(), 0, &queue.records);
                let Some(index) = self.room(queue) else { return false };
                index
            }
        };
        self.entries[index].used = true;
        self.entries[index].pending = Some(task);
        queue.inputs[index].write(task as u64);
        let input = InputDesc { len: 8, place: Place::Word(task as u64) };
        queue.records[index].describe(
            Call { function: 0, attempts: 0, flags: 0 },
            input.words(),
            &[],
        );
        self.queue_up(queue, index);
        true
    }

    /// Returns a record that is FREE and whose entry head has passed.
    fn room(&self, queue: &Queue) -> Option<usize> {
        let head = queue.ring().head();
        let passed = |entry: &Entry| entry.position.is_none_or(|position| position < head);
        self.entries.iter().position(|entry| !entry.used && passed(entry))
    }

    /// QUEUED with a new generation, then the push.
    fn queue_up(&mut self, queue: &Queue, index: usize) {
        let position = self.tail;
        let entry = &mut self.entries[index];
        entry.generation += 1;
        entry.position = Some(position);
        assert!(position - queue.ring().head() < queue.slots.len() as u64, "the ring overflows");
        queue.records[index].publish(entry.generation, place(0, position));
        queue.ring().push(position, index as u32);
        self.tail += 1;
    }

    /// Drains the lane of `slot`.
    pub(super) fn receive(&mut self, queue: &Queue, slot: usize) {
        loop {
            match self.lanes[slot].peek(&queue.lanes[slot]) {
                Next::Empty => return,
                Next::Record(index) => {
                    self.lanes[slot].advance();
                    self.take_if_done(queue, index as usize);
                }
                Next::Corrupt(word) => panic!("lane {slot} has {word:#x}"),
            }
        }
    }

    /// The audit of one record: what is DONE is taken, and given back once its owner's lane is
    /// drained, so that a lane has at most one stale word.
    pub(super) fn audit(&mut self, queue: &Queue, index: usize) {
        let seen = queue.records[index].state();
        if self.is_done(index, seen) {
            self.deliver(queue, index);
            self.receive(queue, seen.owner().slot());
            if self.entries[index].used {
                self.give_back(queue, index);
            }
        }
    }

    /// The audit of a record that is QUEUED behind head: as `QueueState::enqueue_passed`.
    pub(super) fn republish(&mut self, queue: &Queue, index: usize) {
        let seen = queue.records[index].state();
        let (entry, position) = (&mut self.entries[index], self.tail);
        let passed = entry.position.is_some_and(|at| at < queue.ring().head());
        if !passed || seen.state() != Some(State::Queued) {
            return;
        }
        let (generation, at) = (entry.generation + 1, place(0, position));
        if queue.records[index].try_republish(seen, generation, at) {
            (entry.generation, entry.position) = (generation, Some(position));
            queue.ring().push(position, index as u32);
            self.tail += 1;
        }
    }

    fn take_if_done(&mut self, queue: &Queue, index: usize) {
        if self.is_done(index, queue.records[index].state()) {
            self.deliver(queue, index);
            self.give_back(queue, index);
        }
    }

    fn is_done(&self, index: usize, seen: StateWord) -> bool {
        let entry = &self.entries[index];
        entry.used && seen.generation() == entry.generation && seen.state() == Some(State::Done)
    }

    /// The outcome of a DONE record, unless the task was cancelled and has one.
    fn deliver(&mut self, queue: &Queue, index: usize) {
        if let Some(task) = self.entries[index].pending.take() {
            let want = output_of(task as u64);
            assert_eq!(queue.records[index].output().place, Place::Word(want), "output was torn");
            assert_eq!(queue.outputs[index].read(), want, "output was torn");
            self.outcomes[task].push(Outcome::Ok);
        }
    }

    fn give_back(&mut self, queue: &Queue, index: usize) {
        queue.records[index].release(self.entries[index].generation);
        self.entries[index].used = false;
    }

    /// Calls `task` off, if it is pending; its outcome is delivered now.
    pub(super) fn cancel(&mut self, queue: &Queue, task: usize) {
        let Some(index) = self.entries.iter().position(|entry| entry.pending == Some(task)) else {
            return;
        };
        match queue.records[index].cancel(self.entries[index].generation) {
            CancelResult::BeforeClaim => self.give_back(queue, index),
            CancelResult::WhileOwned(_) => {}
            CancelResult::TooLate(now) => {
                assert_eq!(now.state(), Some(State::Done));
                return;
            }
        }
        self.entries[index].pending = None;
        self.outcomes[task].push(Outcome::Cancelled);
    }

    /// Queues again, frees or delivers everything that the dead worker in `slot` held.
    pub(super) fn recover(&mut self, queue: &Queue, slot: usize) {
        self.receive(queue, slot);
        for index in 0..self.entries.len() {
            let seen = queue.records[index].state();
            let entry = self.entries[index];
            if !entry.used || seen.generation() != entry.generation || seen.owner().slot() != slot {
                continue;
            }
            match seen.state() {
                Some(State::Claimed) => self.queue_again(queue, index),
                Some(State::Running) if self.retries => self.queue_again(queue, index),
                Some(State::Running) => {
                    let task = entry.pending.expect("RUNNING is pending");
                    self.entries[index].pending = None;
                    self.outcomes[task].push(Outcome::WorkerLost);
                    self.give_back(queue, index);
                }
                Some(State::Done) => {
                    self.deliver(queue, index);
                    self.give_back(queue, index);
                }
                Some(State::Cancelling) => self.give_back(queue, index),
                _ => {}
            }
        }
    }

    /// Helps head past the old entry, then QUEUED, then the push, so the ring cannot overflow.
    fn queue_again(&mut self, queue: &Queue, index: usize) {
        let position = self.entries[index].position.expect("it was queued");
        queue.ring().help(position);
        assert!(queue.ring().head() > position, "a claim is at head or behind it");
        self.queue_up(queue, index);
    }

    /// Returns where the next worker in `slot` begins its lane.
    pub(super) fn lane_position(&self, slot: usize) -> u64 {
        self.lanes[slot].position()
    }

    /// Returns what `task` ended with so far.
    pub(super) fn outcomes(&self, task: usize) -> &[Outcome] {
        &self.outcomes[task]
    }

    /// Returns how many of the tasks have an outcome.
    pub(super) fn finished(&self) -> usize {
        self.outcomes.iter().filter(|outcomes| !outcomes.is_empty()).count()
    }

    /// At rest: one outcome each, every record free, every ring and lane empty.
    pub(super) fn assert_at_rest(&mut self, queue: &Queue) {
        for slot in 0..self.lanes.len() {
            self.receive(queue, slot);
        }
        for (task, outcomes) in self.outcomes.iter().enumerate() {
            assert_eq!(outcomes.len(), 1, "task {task} ended with {outcomes:?}");
        }
        help_past_stale(queue.ring(), 0, &queue.records);
        assert!(self.entries.iter().all(|entry| !entry.used), "a record leaked");
        assert_eq!(queue.ring().head(), self.tail, "an entry was left in the ring");
    }
}
