//! A process pool for async tasks.
//!
//! A pool keeps worker processes; each runs many async tasks on an event loop of its own. Tasks and
//! their outcomes travel through lock-free rings in shared memory. It is for work that should use
//! every core, and for code that may crash, hang or leak: whatever it does, it does to a worker and
//! not to your program. Work that cannot do harm is simpler in threads (tokio, rayon).
//!
//! Linux 5.10 or later, x86-64 and aarch64.
//!
//! # The first pool
//!
//! ```
//! use aiopool::Pool;
//!
//! async fn count_words(text: String) -> usize {
//!     text.split_whitespace().count()
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pool = Pool::builder().processes(2).build()?;
//!     let texts = ["to be or", "not to be"].map(String::from);
//!     assert_eq!(pool.map(count_words, texts).await?, [3, 3]);
//!     Ok(())
//! }
//! ```
//!
//! A task function is a plain `async fn`, or a closure that captures nothing: see [`TaskFn`]. Its
//! argument and its value are encoded with serde: see [`Argument`] and [`Value`]. Functions that
//! are not async become one with [`sync_fn`], several arguments are a tuple ([`Pool::starmap`]).
//!
//! | to run | use |
//! |---|---|
//! | one task | [`Pool::apply`] |
//! | a task for each item of an iterator | [`Pool::map`] |
//! | a task for each item of an async stream | [`Pool::map_stream`] |
//! | one for each pair of a key and an argument | [`Pool::map_keyed`] |
//! | tasks that yield several values each, or none | [`Pool::map_flat`] |
//! | tasks of several functions, waited for together | [`Pool::task_set`] |
//! | a function once on every worker | [`Pool::broadcast`] |
//! | a function that returns a `Result` | the `try_` form: [`Pool::try_apply`], [`Pool::try_map`] |
//! | one function in a process of its own | [`Worker`], [`Process`] |
//!
//! # Results and errors
//!
//! [`Pool::apply`] gives a [`Task`], [`Pool::map`] a [`Map`]. Awaited, they give the value, or all
//! values in the order of the items. A map can also be read one result at a time, in order or
//! [as completed](Map::as_completed). What has no value has a [`TaskError`], which says why: the
//! function returned an error or panicked, time ran out, the worker died.
//!
//! ```
//! use aiopool::{Pool, TaskError};
//!
//! async fn parse(text: String) -> Result<u32, std::num::ParseIntError> {
//!     text.parse()
//! }
//!
//! # fn main() -> aiopool::Result<()> {
//! let pool = Pool::builder().processes(1).build()?;
//! let results = aiopool::block_on(pool.try_map(parse, ["1", "x"].map(String::from)).results());
//! assert_eq!(*results[0].as_ref().unwrap(), 1);
//! assert!(matches!(results[1], Err(TaskError::Failed(_))));
//! # Ok(())
//! # }
//! ```
//!
//! Dropping a [`Task`] or a [`Map`] cancels what is not over. A full pool pushes back: see
//! [`Pool::submit`].
//!
//! # Options of a task
//!
//! [`Pool::with`] gives the same verbs with [`TaskOptions`]: a time limit, a limit for the wait in
//! the queue, retries with back-off, a priority.
//!
//! ```
//! # use aiopool::{Pool, TaskOptions};
//! # use std::time::Duration;
//! # async fn fetch(url: String) -> Result<usize, String> { Ok(url.len()) }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pool = Pool::builder().processes(1).build()?;
//! let patient = TaskOptions::new()
//!     .timeout(Duration::from_secs(10))
//!     .retries(3)
//!     .retry_on_error(true)
//!     .retry_on_timeout(true)
//!     .backoff(Duration::from_millis(100));
//! let length = pool.with(patient).try_apply(fetch, "http://example.org/".to_owned()).wait()?;
//! # assert_eq!(length, 19);
//! # Ok(())
//! # }
//! ```
//!
//! # When a worker dies
//!
//! A worker that crashes, is killed or exits costs the tasks that were running in it: each ends
//! with [`TaskError::WorkerLost`], which tells how the worker ended, or runs again if its caller
//! allowed [`retries`](TaskOptions::retries). All others go on, and another process takes the
//! worker's place. By default user code never runs twice. How many tasks a crash can cost is how
//! many run in one worker at a time: [`child_concurrency`](PoolBuilder::child_concurrency), or one
//! for functions on [`probation`](PoolBuilder::probation).
//!
//! # Blocking code
//!
//! - In a task, blocking is allowed: it holds up the other tasks of that worker and nothing else.
//!   For tasks that compute, use `child_concurrency(1)`.
//! - A caller that is not async waits with [`Task::wait`] and [`Map::into_blocking_iter`], or runs
//!   a future with [`block_on`].
//!
//! # State in the workers
//!
//! A worker process shares no variable with its host. What every task needs (a client, a model) is
//! made once in each worker by [`PoolBuilder::initializer`] and kept in its [`WorkerContext`].
//! What is large and only read can be loaded before [`init`]: forked workers share it,
//! copy-on-write. [`Limits`] and `Sandbox` (feature `sandbox`, on by default) confine what a worker
//! can do.
//!
//! # Where to read on
//!
//! - `examples/`, one page each: hello, map, progress, retries, deadlines, cancel, confined, crash,
//!   spawn, adapters, and five programs: thumbnails, crawler, crashing_library, web_service,
//!   resumable_batch.
//! - [`PoolBuilder`] for every option of a pool, [`TaskOptions`] for those of a task.
//! - [`Error`] for what a pool refuses, [`TaskError`] for what a task can end with.
//! - [`scheduler`] for choosing the queue of a task, [`Pool::stats`] for numbers.
//! - `docs/` in the repository: design, reliability, performance, the C API.
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `sandbox` | yes | `Sandbox`: workers without files, network or other programs |
//! | `stats-page` | | a named page on which other programs find a pool's numbers |
//! | `metrics` | | [a pool's numbers](Snapshot::metrics) for the recorder of the `metrics` facade |
//! | `capi` | | the functions of the C API; a library for C is the crate `aiopool-capi` |

#![cfg_attr(docsrs, feature(doc_cfg))]
// A module that begins with `#![cfg(not(aiopool_loom))]` is not there under the model checker,
// which knows the facade and the protocols of floor 2, without users.
#![cfg_attr(aiopool_loom, allow(dead_code, unused_imports))]
// What only the C API uses is compiled without it, too: one code for both builds.
#![cfg_attr(not(feature = "capi"), allow(dead_code, unused_imports))]

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "aiopool runs on Linux 5.10 or later, on x86-64 and aarch64: its workers are made with pidfds, \
     sealed memfds and futexes, which other systems do not have"
);

mod arena;
mod control;
mod doorbell;
mod error;
#[cfg(feature = "capi")]
pub mod ffi;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod launch;
#[cfg(not(aiopool_loom))]
mod logs;
mod pool;
mod process;
mod queue;
pub mod remote;
mod ring;
pub mod scheduler;
mod shm;
mod stats;
mod supervisor;
mod sync;
mod sys;
mod table;
mod task;
mod trace;
pub mod view;
mod worker;

pub use error::{Error, Result};
#[cfg(all(feature = "sandbox", not(aiopool_loom)))]
pub use launch::Sandbox;
#[cfg(not(aiopool_loom))]
pub use pool::{Arrived, NamedFunction, Output, PolledPool, PolledTask, PrivateOutput};
#[cfg(aiopool_fuzz)]
#[doc(hidden)]
pub use queue::fuzz::run as fuzz_queue;
#[cfg(aiopool_fuzz)]
#[doc(hidden)]
pub use stats::fuzz_page;
#[cfg(aiopool_fuzz)]
#[doc(hidden)]
pub use supervisor::fuzz::run as fuzz_supervisor;

#[cfg(not(aiopool_loom))]
pub use self::{
    launch::{Limits, StartMethod, Template, after_fork, init, needs_library_of},
    logs::{LogRecord, LogSender, Logs, logs},
    pool::{
        AbortHandle, Broadcast, Collect, Enumerated, Flat, FromStream, Keyed, Map, Part, Parts,
        Pool, PoolBuilder, Printed, Progress, Source, StarFn, Submit, Task, TaskSet, Trace,
        TryStarFn,
    },
    process::{Process, Worker},
    stats::{Histogram, PageStats, observe},
    task::{
        Argument, Blocked, Described, LiveError, LossCause, TaskError, TaskFailure, TaskFn,
        TaskOptions, TaskPanic, TryTaskFn, TypedError, Value, WorkerExit, WorkerLost, described,
        sync_fn, typed,
    },
    view::{FunctionStats, Snapshot, Stats},
    worker::{
        AttachedWorker, Completion, Event, EventInPlace, TaskContext, WorkerContext, is_cancelled,
        progress,
    },
};

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

/// Returns how many processors this process may keep busy, which is how many workers a pool has
/// whose builder is not told: see [`PoolBuilder::processes`].
///
/// Those of the affinity mask, fewer where a control group's quota is lower; at least 1.
#[cfg(not(aiopool_loom))]
#[must_use]
pub fn processors() -> usize {
    sys::cpus::available()
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/living-in-a-service.md")]
struct LivingInAService;
