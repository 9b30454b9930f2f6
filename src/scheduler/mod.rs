//! Floor 6: which queue a task goes to.
#![forbid(unsafe_code)]

mod round_robin;

pub use round_robin::RoundRobin;

/// Chooses the queue of each task.
///
/// Called by whoever submits, from any thread; it must be quick and must not block.
pub trait Scheduler: Send + Sync + 'static {
    /// The pool has `processes[i]` workers on queue `i`; called once, before the first task.
    fn start(&mut self, processes: &[u32]);

    /// The queue for task number `task`; what is not a queue counts as queue 0.
    fn choose(&self, task: u64) -> usize;
}
