//! Which functions have to prove that they do not kill their workers.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::task::function::MAX_FUNCTIONS;

/// Counts the tasks of each function that have ended since a worker died with one.
#[derive(Debug)]
pub(crate) struct Probation {
    /// Ends that prove a function.
    tasks: u32,
    /// By function number. A count that two queues change at once may be off by one, no more.
    ended: Box<[AtomicU32]>,
}

impl Probation {
    /// Returns the books of a pool whose functions are proved by `tasks` ends.
    pub(crate) fn new(tasks: u32) -> Self {
        Self { tasks, ended: (0..MAX_FUNCTIONS).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Returns whether the tasks of a function are to run alone.
    pub(super) fn is_on(&self, function: u32) -> bool {
        self.ended.get(function as usize).is_none_or(|ended| ended.load(Relaxed) < self.tasks)
    }

    /// Takes note of a task that has ended in its worker.
    pub(super) fn note_end(&self, function: u32) {
        if let Some(ended) = self.ended.get(function as usize) {
            let count = ended.load(Relaxed);
            if count < self.tasks {
                ended.store(count + 1, Relaxed);
            }
        }
    }

    /// Takes note of a task that may have ended its worker.
    pub(super) fn note_suspicion(&self, function: u32) {
        if let Some(ended) = self.ended.get(function as usize) {
            ended.store(0, Relaxed);
        }
    }
}
