//! Floor 6: which queue a task goes to.

#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]

mod least_loaded;
mod priority;
mod round_robin;

use std::time::Duration;

pub use least_loaded::LeastLoaded;
pub use priority::Priority;
pub use round_robin::RoundRobin;

/// Chooses the queue of each task.
///
/// A queue is chosen once and for all: its idle workers take the tasks in order, so which *worker*
/// runs a task is not the scheduler's to say. All calls must be quick and must not block; those
/// that take `&self` come from any thread, several at once.
pub trait Scheduler: Send + Sync + 'static {
    /// The pool has a queue with this number; called for 0, 1, … before the first task.
    fn register_queue(&mut self, queue: usize);

    /// The pool has another process on `queue`; called once for each that the pool is built with,
    /// before the first task. A replacement is reported by
    /// [`process_started`](Self::process_started).
    fn register_process(&mut self, queue: usize);

    /// Returns the queue for `task`; what is not a queue counts as queue 0.
    ///
    /// A task that finds its queue full may be asked for again.
    fn schedule_task(&self, task: &NewTask<'_>, load: &dyn Load) -> usize;

    /// Returns whether the choice depends on the load. Where it does not, several tasks of a `map`
    /// are given their queues before the first of them is submitted.
    fn minds_load(&self) -> bool {
        true
    }

    /// Returns whether it is to be told of every outcome. Where it is not, only tasks without a
    /// value are reported to it.
    fn minds_outcomes(&self) -> bool {
        true
    }

    /// A task has its outcome.
    fn complete_task(&self, task: &CompletedTask) {
        let _ = task;
    }

    /// A worker process was started.
    fn process_started(&self, process: &ProcessInfo) {
        let _ = process;
    }

    /// A worker process has ended. `died`: unplanned, and not because it was recycled or the
    /// pool ended.
    fn process_ended(&self, process: &ProcessInfo, died: bool) {
        let _ = (process, died);
    }

    /// Priority classes that it needs, 1 to 4; the pool has at least as many.
    fn classes(&self) -> usize {
        1
    }
}

/// A task that is to be given a queue.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NewTask<'t> {
    /// Its number in the pool.
    pub task: u64,
    /// The task function's name.
    pub function: &'t str,
    /// Its priority class, 0 the most urgent.
    pub priority: u8,
    /// Bytes of its encoded input.
    pub input_bytes: usize,
}

/// A task that has its outcome.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CompletedTask {
    /// Its number in the pool.
    pub task: u64,
    /// The queue it was on.
    pub queue: usize,
    /// Whether it has a value.
    pub ok: bool,
    /// From its submission to the start of its last attempt; zero if no worker reported one.
    pub waited: Duration,
    /// How long its last attempt ran; zero if no worker reported one.
    pub ran: Duration,
}

/// A worker process.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// The queue it serves.
    pub queue: usize,
    /// Its seat in the pool.
    pub worker: u32,
    /// Its process id.
    pub pid: u32,
}

impl ProcessInfo {
    pub(crate) fn new(queue: u16, worker: u32, pid: u32) -> Self {
        Self { queue: usize::from(queue), worker, pid }
    }
}

/// How much each queue has to do, at this moment and about.
pub trait Load {
    /// Returns the number of queues.
    fn queues(&self) -> usize;

    /// Tasks on `queue` that no worker has taken.
    fn depth(&self, queue: usize) -> usize;

    /// Returns the number of those that are in `class` or a more urgent one.
    fn depth_up_to(&self, queue: usize, class: u8) -> usize;

    /// Tasks on `queue` that have no outcome, taken or not.
    fn pending(&self, queue: usize) -> usize;

    /// Tasks that workers of `queue` have taken and not finished.
    fn in_flight(&self, queue: usize) -> usize {
        self.pending(queue).saturating_sub(self.depth(queue))
    }

    /// Workers of `queue` that are alive.
    fn processes(&self, queue: usize) -> usize;
}
