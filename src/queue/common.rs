//! What the queues of a pool share with each other and with the supervisor.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::eventfd::EventFd;

use super::counters::Counters;
use super::inputs::Inputs;
use super::timers::Timers;

/// Shared by all queues of a pool.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) inputs: Inputs,
    pub(crate) timers: Timers,
    pub(crate) counters: Counters,
    /// Rung by workers for the host.
    pub(crate) host_bell: EventFd,
    /// Rung by anybody for the supervisor.
    pub(crate) supervisor_bell: EventFd,
    /// The supervisor looks after pending tasks from time to time; false while the pool is idle.
    watching: AtomicBool,
    /// Time between a cooperative deadline and the end of the worker, and between a stop and it.
    pub(crate) grace_ns: u64,
}

impl Common {
    /// For a new pool.
    pub(crate) fn new(
        inputs: Inputs,
        host_bell: EventFd,
        supervisor_bell: EventFd,
        grace_ns: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            inputs,
            timers: Timers::default(),
            counters: Counters::default(),
            host_bell,
            supervisor_bell,
            watching: AtomicBool::new(false),
            grace_ns,
        })
    }

    /// Wakes the supervisor.
    pub(crate) fn call_supervisor(&self) {
        // The bell is this process's own: ringing it cannot fail while the pool is.
        let _ = self.supervisor_bell.ring();
    }

    /// A task was submitted: has the supervisor begin its watch, if it does not keep one.
    ///
    /// The caller has a SeqCst fence between making the task pending and this.
    pub(crate) fn ensure_watched(&self) {
        // Relaxed: ordered by the caller's fence against the one in `stop_watching`.
        if !self.watching.load(Ordering::Relaxed) && !self.watching.swap(true, Ordering::Relaxed) {
            self.call_supervisor();
        }
    }

    /// The supervisor goes to sleep without a timer; it looks for pending tasks after this.
    pub(crate) fn stop_watching(&self) {
        self.watching.store(false, Ordering::Relaxed);
        // SeqCst: pairs with the fence before `ensure_watched`. Either the submitter sees the
        // flag down, or the look that follows sees the task.
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// The supervisor keeps watching.
    pub(crate) fn keep_watching(&self) {
        self.watching.store(true, Ordering::Relaxed);
    }
}
