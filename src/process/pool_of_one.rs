//! The pool of one process that runs one task: what Rust and C make of it alike.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pool::{Pool, PoolBuilder};
use crate::task::WorkerExit;

static NEXT_NAME: AtomicUsize = AtomicUsize::new(1);

/// Records of the one queue: the least there can be.
const CAPACITY: usize = 16;

/// Returns a name for a process that was given none.
pub(crate) fn next_name(kind: &str) -> String {
    format!("{kind}-{}", NEXT_NAME.fetch_add(1, Ordering::Relaxed))
}

/// Makes it a pool of one process, which runs one task and is not replaced.
pub(crate) fn of_one(builder: PoolBuilder) -> PoolBuilder {
    builder
        .processes(1)
        .queues(1)
        .child_concurrency(1)
        .max_tasks_per_child(1)
        .capacity(CAPACITY)
        .without_replacement()
}

/// Returns what the process of a pool of one exited with, if it has ended.
pub(crate) fn exit_code(pool: &Pool) -> Option<i32> {
    let exit = pool.shared.single()?.exit?;
    if let Some(signal) = exit.signal() {
        return Some(-signal);
    }
    match exit {
        WorkerExit::Exited(0) => Some(i32::from(pool.stats().ok != 1)),
        WorkerExit::Exited(status) => Some(status),
        _ => None,
    }
}
