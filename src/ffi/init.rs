//! Start of the process.
//!
//! First thing in `main`: register the task functions, load what all workers are to share, call
//! `aiopool_init`, then start threads and pools as you like.

use super::boundary::Failure;
use super::registry;
use super::status::*;
use crate::error::Error;
use crate::sys::forked::PerProcess;
use crate::worker::WorkerContext;

/// Snapshots that `aiopool_init` has taken of a process.
static TAKEN: PerProcess<u32> = PerProcess::new(|_| 0);

/// Returns whether a snapshot that workers are forked from was taken, by C or by Rust.
pub(super) fn is_done() -> bool {
    *TAKEN.read() > 0 || crate::launch::has_snapshot()
}

/// Returns the number of the last snapshot: 1 for the first.
pub(super) fn snapshot() -> u32 {
    // The first may have been taken by a program in Rust.
    (*TAKEN.read()).max(1)
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
    /// Forks the process from which the workers of later pools are forked; they share its memory as
    /// it is at this moment, copy-on-write.
    ///
    /// Task functions that were registered before can be submitted to those pools. Standard output
    /// is flushed. Calling it again does nothing unless functions were registered since: then
    /// another process is forked, for the pools that are started after that, and those that there
    /// are keep theirs. So each library of a program can register its functions, call this and
    /// start its pools without knowing of the others. Without this call a pool takes only functions
    /// that are declared by name, for workers that are another program.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TOO_LATE` if this process has a second thread (those of
    /// this library's own pools do not count) or has started a pool without having called this
    /// before; `AIOPOOL_ERR_INVALID` if a registered function is in no mapped image;
    /// `AIOPOOL_ERR_SYSTEM`.
    /// Thread rule: from the only thread of the process.
    fn aiopool_init() -> aiopool_status {
        check_host()?;
        let mut taken = TAKEN.write();
        let again = *taken > 0 || crate::launch::has_snapshot();
        if *taken > 0 && !registry::any_new() {
            return Ok(());
        }
        registry::check_all()?;
        if !again || registry::any_new() {
            let init = if again { crate::launch::init_again } else { crate::launch::init };
            init().map_err(|error| match error {
                Error::Misuse(_) => Failure { status: AIOPOOL_ERR_TOO_LATE, ..error.into() },
                other => other.into(),
            })?;
        }
        *taken = snapshot_after(*taken, again);
        registry::set_snapshot(*taken);
        Ok(())
    }
}

/// Returns the number of the snapshot that was just taken, after `taken` others; `again` if there
/// was one, perhaps of a program in Rust.
fn snapshot_after(taken: u32, again: bool) -> u32 {
    match (taken, again) {
        (0, true) => 2,
        (taken, _) => taken + 1,
    }
}
