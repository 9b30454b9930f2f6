//! Holds this library's own threads at a known place while the process is forked.
//!
//! A fork copies the calling thread only. What another thread was changing at that moment (a lock,
//! the allocator) would stay half changed in the copy for ever. Our threads are between two pieces
//! of work when they sleep in the kernel: a fork waits until all of them do, and they wait for the
//! end of the fork before they go on.
#![forbid(unsafe_code)]

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLockReadGuard};

use super::forked::PerProcess;

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads of ours that there are.
    threads: usize,
    /// Those of them that do not sleep.
    running: usize,
    /// The process is being forked.
    closed: bool,
}

/// A copy of the process has none of these threads.
static GATE: PerProcess<Gate> = PerProcess::new(|_| Gate::default());

/// Returns this process's gate, which is never locked for changes.
fn gate() -> RwLockReadGuard<'static, Gate> {
    GATE.read()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// Waits until no fork is under way.
    fn open(&self) -> MutexGuard<'_, State> {
        let closed = |state: &mut State| state.closed;
        let state = self.changed.wait_while(lock(&self.state), closed);
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread of ours.
#[derive(Debug)]
pub(crate) struct Running(());

impl Running {
    /// Takes note of a thread that is about to be made; the value goes with it.
    pub(crate) fn begin() -> Self {
        let gate = gate();
        let mut state = gate.open();
        state.threads += 1;
        state.running += 1;
        Self(())
    }

    /// Runs `sleep`, which sleeps in the kernel and changes nothing that others have.
    pub(crate) fn asleep<T>(&self, sleep: impl FnOnce() -> T) -> T {
        let gate = gate();
        lock(&gate.state).running -= 1;
        gate.changed.notify_all();
        let result = sleep();
        gate.open().running += 1;
        result
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let gate = gate();
        let mut state = lock(&gate.state);
        state.threads -= 1;
        state.running -= 1;
        drop(state);
        gate.changed.notify_all();
    }
}

/// Runs `fork` while no thread of ours runs, with the number of those that there are.
#[cfg_attr(not(feature = "capi"), allow(dead_code))]
pub(crate) fn closed<T>(fork: impl FnOnce(usize) -> T) -> T {
    let gate = gate();
    let mut state = gate.open();
    state.closed = true;
    let running = |state: &mut State| state.running > 0;
    state = gate.changed.wait_while(state, running).unwrap_or_else(PoisonError::into_inner);
    let result = fork(state.threads);
    state.closed = false;
    drop(state);
    gate.changed.notify_all();
    result
}
