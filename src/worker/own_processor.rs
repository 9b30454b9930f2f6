//! Where a worker runs: it says so, and compares it with where the host waits.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::control::Control;
use crate::sys::cpus;

/// The processor of the worker in one slot.
#[derive(Debug)]
pub(super) struct OwnProcessor {
    control: Arc<Control>,
    slot: usize,
    /// Number of tasks claimed.
    claims: u32,
}

impl OwnProcessor {
    /// Creates what the worker in `slot` says of itself.
    pub(super) fn new(control: &Arc<Control>, slot: usize) -> Self {
        Self { control: Arc::clone(control), slot, claims: 0 }
    }

    /// Says where this worker runs, for the host to know whether to spin for it.
    pub(super) fn note(&self) {
        self.control.processors().set_worker(self.slot, cpus::current());
    }

    /// The worker has claimed a task: one that never waits may be moved, too, and says so at times.
    pub(super) fn note_claim(&mut self) {
        self.claims = self.claims.wrapping_add(1);
        if self.claims.is_multiple_of(16) {
            self.note();
        }
    }

    /// Returns whether the host may be running: it was not last seen where this worker runs.
    pub(super) fn may_host_run(&self) -> bool {
        self.control.processors().may_host_run(cpus::current())
    }
}
