//! Start of the process.
//!
//! First thing in `main`: register the task functions, load what all workers are to share, call
//! `aiopool_init`, then start threads and pools as you like.

use std::sync::atomic::{AtomicU32, Ordering};

use super::boundary::Failure;
use super::registry;
use super::status::*;
use crate::error::Error;
use crate::worker::WorkerContext;

/// The process that called `aiopool_init`; a child that it forks has not.
static DONE_BY: AtomicU32 = AtomicU32::new(0);

/// Returns whether the snapshot that workers are forked from was taken, by C or by Rust.
pub(super) fn is_done() -> bool {
    // Relaxed: carries nothing; registering and initialising are for one thread.
    DONE_BY.load(Ordering::Relaxed) == std::process::id() || crate::launch::has_snapshot()
}

/// Refuses a call that is for the host inside of a worker.
pub(super) fn check_host() -> Result<(), Failure> {
    if WorkerContext::current().is_none() {
        return Ok(());
    }
    let text = "this call is for the host: a task function cannot use pools of its worker's host";
    Err(Failure::new(AIOPOOL_ERR_IN_WORKER, text))
}

ffi_fn! {
    /// Forks the process from which all workers are forked; they share its memory as it is at this
    /// moment, copy-on-write.
    ///
    /// Task functions that were registered before can be submitted. Standard output is flushed.
    /// Calling it a second time does nothing. Without this call a pool takes only functions that
    /// are declared by name, for workers that are another program.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TOO_LATE` if this process has a second thread or has
    /// started a pool; `AIOPOOL_ERR_INVALID` if a registered function is in no mapped image;
    /// `AIOPOOL_ERR_SYSTEM`.
    /// Thread rule: from the only thread of the process.
    fn aiopool_init() -> aiopool_status {
        check_host()?;
        if is_done() {
            return Ok(());
        }
        registry::check_all()?;
        crate::launch::init().map_err(|error| match error {
            Error::Misuse(_) => Failure { status: AIOPOOL_ERR_TOO_LATE, ..error.into() },
            other => other.into(),
        })?;
        DONE_BY.store(std::process::id(), Ordering::Relaxed);
        Ok(())
    }
}
