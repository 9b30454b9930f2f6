//! What is measured of the whole process: its allocations, its memory, its wake-ups, its forks. One
//! test at a time, whatever `--test-threads` says.

mod allocations;
mod cpu_time;
mod fairness;
mod forked_host;
mod idle;
mod memory;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The right to run, given back when it is dropped.
struct Turn(#[allow(dead_code, reason = "it is held, not read")] MutexGuard<'static, ()>);

/// Waits until no other test of this program runs.
fn one_at_a_time() -> Turn {
    static RUNNING: Mutex<()> = Mutex::new(());
    Turn(RUNNING.lock().unwrap_or_else(PoisonError::into_inner))
}
