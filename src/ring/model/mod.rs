//! loom models of a queue on the heap: submit, claim, help, complete and receive with records
//! used again; cancel; recovery and audit beside living workers; several host threads; blocks
//! handed back.
//!
//! The memory and the code that touches it are the product's; the host and the worker around them
//! keep the rules of `ring/README.md` and nothing more. Run by `.ci/run`; `examples/model` breaks
//! the rules on purpose.

mod cancel;
mod handback;
mod host;
mod passed;
mod recovery;
mod reuse;
mod scene;
mod threads;
mod worker;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::sync::atomic::AtomicU64;
use crate::sync::model::Bytes;
use crate::table::Record;

use super::task_ring::TaskRing;

/// A queue's shared memory.
pub(super) struct Queue {
    head: AtomicU64,
    slots: Vec<AtomicU64>,
    records: Vec<Record>,
    lanes: Vec<Vec<AtomicU64>>,
    /// What stands for the block of each record's input, in the request arena.
    inputs: Vec<Bytes>,
    /// What stands for the block of each record's output. The worker that runs the record's task
    /// writes it, until DONE.
    outputs: Vec<Bytes>,
    /// How often each task ran. Not the queue's: the model's own notebook, which loom ignores.
    runs: Vec<AtomicUsize>,
}

impl Queue {
    fn new(records: usize, workers: usize, tasks: usize) -> Self {
        let words = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        Self {
            head: AtomicU64::new(0),
            slots: words(records),
            records: (0..records).map(|_| Record::default()).collect(),
            lanes: (0..workers).map(|_| words(lane_words(records))).collect(),
            inputs: (0..records).map(|_| Bytes::new()).collect(),
            outputs: (0..records).map(|_| Bytes::new()).collect(),
            runs: (0..tasks).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    fn ring(&self) -> TaskRing<'_> {
        TaskRing::new(&self.head, &self.slots)
    }

    /// Notes that user code runs for `task`.
    fn runs(&self, task: u64) {
        self.runs[task as usize].fetch_add(1, Relaxed);
    }

    /// Returns how often user code ran for `task`.
    fn ran(&self, task: usize) -> usize {
        self.runs[task].load(Relaxed)
    }
}

/// Words of a lane for a table of `records`; see `ring/README.md` for why it is never full.
fn lane_words(records: usize) -> usize {
    2 * records
}
