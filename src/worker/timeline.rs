//! The worker's end of timelines: what it does, in its ring; `trace/README.md` has the protocol.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::control::Control;
use crate::sync::atomic::Ordering::Acquire;
use crate::table::Call;
use crate::trace::{Entry, Open, Writer};

/// What this worker writes into its ring, if anything.
#[derive(Debug)]
pub(super) struct Tracing {
    /// Tasks whose number is a multiple of this are traced; 0: none are.
    every: u32,
    /// When the task that is being started was queued.
    queued: u64,
    incarnation: u16,
    slot: usize,
    control: Arc<Control>,
    /// There once the pool is traced.
    writer: Option<Writer>,
}

/// What an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// The first poll of an attempt.
    FirstPoll,
    /// Another poll of it, or the drop of its future.
    Later,
    /// All of an attempt.
    Run,
}

impl Tracing {
    /// For the worker in `slot` of that incarnation.
    pub(super) fn new(control: Arc<Control>, slot: usize, incarnation: u32) -> Self {
        // The ring has its low bits, as the task table.
        let incarnation = incarnation as u16 & 0xFFF;
        let mut tracing = Self { every: 0, queued: 0, incarnation, slot, control, writer: None };
        tracing.read_switch();
        tracing
    }

    /// Reads what the host wants: when the worker starts, and whenever it has raised attention.
    pub(super) fn read_switch(&mut self) {
        // Acquire: pairs with the Release of the host, which has reserved the ring's memory.
        let every = self.control.trace_switch(self.slot).load(Acquire);
        self.every = u32::try_from(every).unwrap_or(0);
        if self.every > 0 && self.writer.is_none() {
            self.writer = Some(Writer::new(self.control.trace(self.slot)));
        }
    }

    /// Returns whether anything is traced.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.every > 0
    }

    /// Notes when the task was queued that is about to be started.
    #[inline]
    pub(super) fn note_queued(&mut self, at: u64) {
        self.queued = at;
    }

    /// Begins an entry at `start`, if the task is traced.
    pub(super) fn begin(&mut self, call: Call, start: u64, of: Of) -> Option<Open> {
        if self.every > 1 && !call.task().is_multiple_of(self.every) {
            return None;
        }
        let waited = (of != Of::Later).then(|| start.saturating_sub(self.queued));
        let (is_run, incarnation) = (of == Of::Run, self.incarnation);
        let entry = Entry { start, call, waited, is_run, incarnation, end: None };
        Some(self.writer.as_mut()?.begin(self.control.trace(self.slot), entry))
    }

    /// Ends an entry.
    pub(super) fn end(&mut self, open: Open, now: u64, how: u8) {
        if let Some(writer) = &mut self.writer {
            writer.end(self.control.trace(self.slot), open, now, how);
        }
    }
}
