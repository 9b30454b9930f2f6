//! What a program does again in each process that is forked with its memory.
#![forbid(unsafe_code)]

use std::panic::catch_unwind;
use std::sync::Mutex;

use crate::sync::lock;

/// The hooks of this process, which forked workers have a copy of.
static HOOKS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Runs `hook` in each worker that is forked with the memory of this process, before its
/// initializer.
///
/// Call it before [`init`](crate::init), which takes that memory. A generator of random numbers
/// that was used or seeded before is in every worker in the same state, so that all of them draw
/// the same numbers; so is a cache of the process id, and a connection that only one process may
/// use. Hooks run in the order in which they were given. Workers that are executed anew have none
/// of that memory, and run none.
///
/// A hook that panics keeps the worker from starting. In C, `pthread_atfork` does the same.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// static GENERATOR: AtomicU64 = AtomicU64::new(0);
///
/// fn main() -> aiopool::Result<()> {
///     GENERATOR.store(4711, Relaxed);
///     aiopool::after_fork(|| GENERATOR.store(std::process::id().into(), Relaxed));
///     aiopool::init()?;
///     Ok(())
/// }
/// ```
pub fn after_fork(hook: fn()) {
    lock(&HOOKS).push(hook);
}

/// Whether this process has a hook.
pub(super) fn is_given() -> bool {
    !lock(&HOOKS).is_empty()
}

/// Runs the hooks in a worker that was just forked.
///
/// # Errors
///
/// That one of them panicked; what it said is on the error output.
pub(super) fn run_hooks() -> Result<(), String> {
    // One thread, so no other holds the lock; copied, so that a hook may add another.
    let hooks = lock(&HOOKS).clone();
    catch_unwind(|| hooks.iter().for_each(|hook| hook()))
        .map_err(|_| "a hook given to aiopool::after_fork panicked".to_owned())
}
