//! `aiopool`: a process pool for async tasks.
//!
//! Workers are forked processes with an event loop each; tasks and outcomes travel through
//! lock-free rings in shared memory. See `docs/design.md` for how it works.

pub(crate) mod arena;
pub(crate) mod control;
pub(crate) mod doorbell;
mod error;
pub(crate) mod launch;
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
pub use task::{LossCause, TaskError, TaskFailure, TaskOptions, TaskPanic, WorkerExit, WorkerLost};
