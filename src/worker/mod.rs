//! Floor 4: the worker process.

mod start;

pub(crate) use start::{WorkerFds, WorkerStart};

/// Serves the queue until the pool ends. PLACEHOLDER: ends at once; the worker's loop replaces it.
pub(crate) fn run(start: WorkerStart) -> ! {
    drop(start);
    std::process::exit(0)
}
