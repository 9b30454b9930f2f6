//! Start of the process.
//!
//! First thing in `main`: register the task functions, load what all workers are to share, call
//! `aiopool_init`, then start threads and pools as you like.

use super::boundary::Failure;
use super::status::*;
use super::{contexts, registry};
use crate::error::Error;
use crate::sys::forked::PerProcess;
use crate::worker::WorkerContext;

/// What `aiopool_init` and `aiopool_shutdown` have done in a process.
#[derive(Clone, Copy, Default)]
struct Taken {
    /// Snapshots that were taken.
    count: u32,
    /// The last one was given up.
    is_over: bool,
}

static TAKEN: PerProcess<Taken> = PerProcess::new(|_| Taken::default());

/// Returns whether a snapshot that workers are forked from was taken, by C or by Rust.
pub(super) fn is_done() -> bool {
    let taken = *TAKEN.read();
    taken.count > 0 && !taken.is_over || crate::launch::has_snapshot()
}

/// Returns the number of the last snapshot: 1 for the first.
pub(super) fn snapshot() -> u32 {
    // The first may have been taken by a program in Rust.
    TAKEN.read().count.max(1)
}

/// Takes a snapshot, unless the last one has every function that is registered.
pub(super) fn take() -> Result<(), Failure> {
    let mut taken = TAKEN.write();
    let again = taken.count > 0 || crate::launch::has_snapshot();
    if taken.count > 0 && !taken.is_over && !registry::any_new() {
        return Ok(());
    }
    registry::check_all()?;
    if !again || taken.is_over || registry::any_new() {
        let init = if again { crate::launch::init_again } else { crate::launch::init };
        init().map_err(|error| match error {
            Error::Misuse(_) => Failure { status: AIOPOOL_ERR_TOO_LATE, ..error.into() },
            other => other.into(),
        })?;
    }
    *taken = Taken { count: snapshot_after(taken.count, again), is_over: false };
    registry::set_snapshot(taken.count);
    Ok(())
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
        take()
    }
}

ffi_fn! {
    /// Ends the process that `aiopool_init` forked, or that the first pool started: then this
    /// process has no child, thread or descriptor of the library.
    ///
    /// All pools and processes are to be freed before. Functions stay registered: `aiopool_init`
    /// can be called again, as if it were called again for new functions, and pools started after
    /// it. What is left until the process ends is memory: names of functions, and cells of handles,
    /// by which a freed handle is recognised.
    ///
    /// Returns `AIOPOOL_OK`, also where there is nothing to end; `AIOPOOL_ERR_BUSY`, and nothing
    /// is done, while there is a pool, or a process, or an outcome or loan of one.
    /// Thread rule: while no other thread calls the library.
    fn aiopool_shutdown() -> aiopool_status {
        check_host()?;
        let mut taken = TAKEN.write();
        let pools = contexts::open_pools();
        if pools > 0 {
            let text = format!("{pools} pools or processes are not freed: free them before this");
            return Err(Failure::new(AIOPOOL_ERR_BUSY, text));
        }
        if !crate::launch::end() {
            let text = "something of a pool is in use: a pool of a program in Rust that uses this \
                        library, too, or an outcome or loan that is held";
            return Err(Failure::new(AIOPOOL_ERR_BUSY, text));
        }
        taken.is_over = taken.count > 0;
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
