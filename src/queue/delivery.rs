//! Outcomes on their way to their receivers.
//!
//! The tasks of a `map` all have one receiver, so the queue keeps one reference to it and counts
//! the tasks: a reference of each task's own would cost two locked instructions a task. Outcomes
//! of one receiver that come together are handed over together.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slab::Slab;

use crate::task::{Outcome, Predicate, TaskError};

use super::entry::{Delivery, Pending, Receiver, Ticket};
use super::times::AllTimes;

/// The receiver of a submission's outcome.
#[allow(missing_debug_implementations, reason = "a receiver has none")]
pub enum For<'r> {
    /// One that receives this outcome only.
    One(Arc<dyn Receiver>),
    /// One that receives many.
    Many(&'r Arc<dyn Receiver>),
}

/// The receivers of a queue's pending tasks.
pub(super) struct Receivers {
    /// Batches of their outcomes that are on their way.
    delivering: Arc<AtomicUsize>,
    counted: Slab<Counted>,
    /// The key of the receiver of many outcomes that was used last.
    last: usize,
    /// What the tasks that the host ends are counted in.
    times: Arc<AllTimes>,
}

struct Counted {
    receiver: Arc<dyn Receiver>,
    /// Pending tasks whose outcomes it receives.
    tasks: usize,
}

impl std::fmt::Debug for Receivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receivers({})", self.counted.len())
    }
}

impl Receivers {
    /// Returns no receivers; the tasks that the host ends are counted in `times`, batches on their
    /// way in `delivering`.
    pub(super) fn new(times: Arc<AllTimes>, delivering: Arc<AtomicUsize>) -> Self {
        Self { delivering, counted: Slab::new(), last: 0, times }
    }

    /// Adds `tasks` pending tasks to `receiver` and returns the key under which they are counted.
    #[inline(always)] // once a task
    pub(super) fn join(&mut self, receiver: For<'_>, tasks: usize) -> usize {
        let receiver = match receiver {
            For::One(receiver) => receiver,
            For::Many(receiver) => {
                if let Some(last) = self.counted.get_mut(self.last)
                    && Arc::ptr_eq(&last.receiver, receiver)
                {
                    last.tasks += tasks;
                    return self.last;
                }
                self.last = self.counted.vacant_key();
                Arc::clone(receiver)
            }
        };
        self.counted.insert(Counted { receiver, tasks })
    }

    /// Subtracts `tasks` finished tasks from `key` and returns their receiver.
    pub(super) fn leave(&mut self, key: usize, tasks: usize) -> Arc<dyn Receiver> {
        let counted = &mut self.counted[key];
        counted.tasks -= tasks;
        if counted.tasks == 0 {
            self.counted.remove(key).receiver
        } else {
            Arc::clone(&counted.receiver)
        }
    }
}

/// Outcomes that were decided under the queue's mutex, to be handed over without it.
#[derive(Default)]
pub(super) struct Deliveries {
    outcomes: Vec<Delivery>,
    /// How many of them are no values.
    errors: usize,
    /// The receivers in order, each with how many of the outcomes are its own.
    runs: Vec<(Arc<dyn Receiver>, usize)>,
    /// The outcomes of one receiver; kept for its memory.
    batch: Vec<Delivery>,
    /// Ends of attempts that callers' predicates are to be asked about.
    questions: Vec<Question>,
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deliveries({:?})", self.outcomes)
    }
}

/// An attempt that ended, and may be made again if its caller's predicate says so.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) ticket: Ticket,
    pub(super) attempt: u32,
    pub(super) token: u64,
    pub(super) predicate: Predicate,
    pub(super) end: End,
}

/// How an attempt ended that is not the task's value.
#[derive(Debug)]
pub(super) struct End {
    pub(super) error: TaskError,
    /// Whether it counts against the retries.
    pub(super) counts: bool,
    /// Whether nothing is to run beside the next attempt.
    pub(super) alone: bool,
    /// Whether the next attempt follows without a pause.
    pub(super) at_once: bool,
}

thread_local! {
    /// An empty list that this thread used before, kept for its memory.
    static SPARE: Cell<Option<Box<Deliveries>>> = const { Cell::new(None) };
}

impl Deliveries {
    /// Returns an empty list, with the memory of the one that this thread used last.
    pub(super) fn spare() -> Box<Self> {
        SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    /// Keeps this list, which is empty, for the next call of [`spare`](Self::spare).
    pub(super) fn keep(self: Box<Self>) {
        debug_assert!(self.is_settled());
        // A thread that is about to end keeps nothing.
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }

    /// Adds the `outcome` of the task `pending`.
    #[inline(always)] // once a task: as a call, `outcome` is moved through memory
    pub(super) fn push(&mut self, receivers: &mut Receivers, pending: &Pending, outcome: Outcome) {
        if self.outcomes.is_empty() {
            // Before the task is seen to be gone; `HostQueue::deliver` takes it back.
            receivers.delivering.fetch_add(1, Ordering::SeqCst);
        }
        let counted = &mut receivers.counted[pending.receiver];
        match self.runs.last_mut() {
            Some((receiver, count))
                if counted.tasks > 1 && Arc::ptr_eq(receiver, &counted.receiver) =>
            {
                *count += 1;
                counted.tasks -= 1;
            }
            _ => self.push_run(receivers.leave(pending.receiver, 1)),
        }
        self.errors += usize::from(outcome.result.is_err());
        let Pending { task, token, .. } = *pending;
        self.outcomes.push(Delivery { outcome, task, token });
    }

    /// Notes that the next outcome goes to `receiver`.
    fn push_run(&mut self, receiver: Arc<dyn Receiver>) {
        match self.runs.last_mut() {
            Some((last, count)) if Arc::ptr_eq(last, &receiver) => *count += 1,
            _ => self.runs.push((receiver, 1)),
        }
    }

    /// Adds `error` as the outcome of the task `pending`.
    pub(super) fn push_error(
        &mut self,
        receivers: &mut Receivers,
        pending: &Pending,
        error: TaskError,
    ) {
        receivers.times.note_error(pending.function, &error);
        self.push(receivers, pending, Outcome::error(error, pending.attempts));
    }

    /// Returns the number of outcomes.
    pub(super) fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Returns how many of the outcomes are no values.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// Adds a question, to be asked without a lock.
    pub(super) fn ask(&mut self, question: Question) {
        self.questions.push(question);
    }

    /// Takes a question out.
    pub(super) fn next_question(&mut self) -> Option<Question> {
        self.questions.pop()
    }

    /// Returns whether there is nothing to be done with it.
    pub(super) fn is_settled(&self) -> bool {
        self.outcomes.is_empty() && self.questions.is_empty()
    }

    /// Returns the outcomes, each with the number of its task.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Outcome)> + Clone {
        self.outcomes.iter().map(|Delivery { task, outcome, .. }| (*task, outcome))
    }

    /// Hands the outcomes to their receivers; the caller holds no lock. Returns how many receivers
    /// it woke that [`Common::park`](super::Common::park) had counted.
    pub(super) fn hand_over(&mut self) -> usize {
        let Self { outcomes, runs, batch, .. } = self;
        let mut woken = 0;
        if let [(receiver, _)] = &runs[..] {
            woken = receiver.deliver_all(outcomes);
            runs.clear();
        } else {
            let mut left = outcomes.drain(..);
            for (receiver, count) in runs.drain(..) {
                batch.extend(left.by_ref().take(count));
                woken += receiver.deliver_all(batch);
            }
        }
        self.errors = 0;
        woken
    }
}
