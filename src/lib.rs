//! `aiopool`: a process pool for async tasks.
//!
//! Workers are forked processes with an event loop each; tasks and outcomes travel through
//! lock-free rings in shared memory. See `docs/design.md` for how it works.

pub(crate) mod arena;
pub(crate) mod control;
pub(crate) mod doorbell;
mod error;
pub(crate) mod launch;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod ring;
pub mod scheduler;
#[cfg(feature = "scrape")]
pub mod scrape;
pub(crate) mod shm;
pub(crate) mod supervisor;
pub(crate) mod sync;
pub(crate) mod sys;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod worker;

pub use error::{Error, Result};
pub use launch::{StartMethod, init};
pub use pool::{
    Collect, FromIter, FromStream, Map, Pool, PoolBuilder, Source, StarFunction, Stats, Submit,
    Task,
};
pub use task::{
    Fallible, Finish, LossCause, Plain, TaskError, TaskFailure, TaskOptions, TaskPanic, WorkerExit,
    WorkerLost,
};
pub use worker::{AttachedWorker, Completion, Event, WorkerContext};

/// Runs `future` on a tokio runtime of its own, of this thread only, with timers and I/O.
///
/// For a `main` that calls `init` first; inside another runtime, await instead.
///
/// # Panics
///
/// Inside a tokio runtime, or if the system refuses the runtime's descriptors.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system refuses a runtime its descriptors")
        .block_on(future)
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
