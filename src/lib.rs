//! `aiopool`: a process pool for async tasks.
//!
//! Workers are forked processes with an event loop each; tasks and outcomes travel through
//! lock-free rings in shared memory. See `docs/design.md` for how it works.

// Under the model checker there are only the facade and the protocols of floor 2, without users.
#![cfg_attr(aiopool_loom, allow(dead_code, unused_imports))]
// What only the C API uses is compiled without it, too: one code for both builds.
#![cfg_attr(not(feature = "capi"), allow(dead_code, unused_imports))]

pub(crate) mod arena;
#[cfg(not(aiopool_loom))]
pub(crate) mod control;
pub(crate) mod doorbell;
mod error;
#[cfg(all(feature = "capi", not(aiopool_loom)))]
pub mod ffi;
#[cfg(all(feature = "internals", not(aiopool_loom)))]
#[doc(hidden)]
pub mod internals;
#[cfg(not(aiopool_loom))]
pub(crate) mod launch;
#[cfg(not(aiopool_loom))]
pub(crate) mod pool;
#[cfg(not(aiopool_loom))]
pub(crate) mod process;
#[cfg(not(aiopool_loom))]
pub(crate) mod queue;
pub(crate) mod ring;
#[cfg(not(aiopool_loom))]
pub mod scheduler;
#[cfg(not(aiopool_loom))]
pub(crate) mod shm;
#[cfg(not(aiopool_loom))]
pub(crate) mod stats;
#[cfg(not(aiopool_loom))]
pub(crate) mod supervisor;
pub(crate) mod sync;
#[cfg(not(aiopool_loom))]
pub(crate) mod sys;
pub(crate) mod table;
#[cfg(not(aiopool_loom))]
pub(crate) mod task;
#[cfg(not(aiopool_loom))]
pub(crate) mod worker;

pub use error::{Error, Result};
#[cfg(all(feature = "sandbox", not(aiopool_loom)))]
pub use launch::Sandbox;
#[cfg(not(aiopool_loom))]
pub use launch::{Limits, StartMethod, after_fork, init};
#[cfg(not(aiopool_loom))]
pub use pool::{
    Collect, FromStream, FunctionStats, Map, Pool, PoolBuilder, Source, StarFn, Stats, Submit,
    Task, TryStarFn,
};
#[cfg(not(aiopool_loom))]
pub use process::{Process, Worker};
#[cfg(aiopool_fuzz)]
#[doc(hidden)]
pub use queue::fuzz::live as fuzz_queue;
#[cfg(aiopool_fuzz)]
#[doc(hidden)]
pub use stats::fuzz_page;
#[cfg(not(aiopool_loom))]
pub use stats::{Histogram, PageStats, observe};
#[cfg(aiopool_fuzz)]
#[doc(hidden)]
pub use supervisor::fuzz::live as fuzz_supervisor;
#[cfg(not(aiopool_loom))]
pub use task::{
    Argument, Described, LiveError, LossCause, TaskError, TaskFailure, TaskFn, TaskOptions,
    TaskPanic, TryTaskFn, Value, WorkerExit, WorkerLost, described, sync_fn,
};
#[cfg(not(aiopool_loom))]
pub use worker::{AttachedWorker, Completion, Event, WorkerContext};

/// Runs `future` on a tokio runtime of its own, of this thread only, with timers and I/O.
///
/// For a `main` that calls `init` first; inside another runtime, await instead.
///
/// # Panics
///
/// Inside a tokio runtime, or if the system refuses the runtime's descriptors.
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system refuses a runtime its descriptors")
        .block_on(future.into_future())
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/living-in-a-service.md")]
struct LivingInAService;
