//! Which traces of a pool are under way, and whose entries they will find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::control::Control;
use crate::sync::lock;
use crate::sys::clock::monotonic_ns;
use crate::trace::every_word;

/// Which process wrote an entry: its queue, slot and incarnation.
pub(super) type Writer = (u16, u16, u16);

/// The traces of a pool that are under way.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    any: AtomicBool,
    inner: Mutex<Inner>,
}

/// What of them is changed under a lock.
#[derive(Debug, Default)]
pub(super) struct Inner {
    /// Each with its number and with which tasks it wants.
    wanted: Vec<(u64, u32)>,
    next: u64,
    /// The workers since the first of them began.
    workers: BTreeMap<Writer, Process>,
}

/// A worker since the first of the traces began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) seat: u32,
    pub(super) pid: u32,
    /// When it ended, if it has.
    pub(super) ended: Option<u64>,
}

impl Traces {
    /// Notes which workers there are, so that an entry's writer is known after its death.
    pub(super) fn note_workers(&self, workers: impl Iterator<Item = (Writer, u32, u32)>) {
        if self.any.load(Ordering::Relaxed) {
            lock(&self.inner).note(workers);
        }
    }

    /// Has new workers noted, or not.
    pub(super) fn note_from_now(&self, yes: bool) {
        self.any.store(yes, Ordering::Relaxed);
    }

    /// Locks the traces that are under way.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Has the workers that use `control`, a new region, traced, if there is a trace.
    pub(super) fn carry_over(&self, control: &Control) {
        let inner = lock(&self.inner);
        // Without memory the trace has a gap.
        if !inner.wanted.is_empty() && control.reserve_traces().is_ok() {
            inner.switch(control);
        }
    }
}

impl Inner {
    /// Notes which workers there are, each with its seat and its pid.
    pub(super) fn note(&mut self, workers: impl Iterator<Item = (Writer, u32, u32)>) {
        let now = monotonic_ns();
        let mut alive = BTreeSet::new();
        for (writer, seat, pid) in workers {
            alive.insert(writer);
            self.workers.insert(writer, Process { seat, pid, ended: None });
        }
        for (writer, process) in &mut self.workers {
            if !alive.contains(writer) {
                process.ended.get_or_insert(now);
            }
        }
    }

    /// Returns whether there is no trace; the workers are forgotten then.
    pub(super) fn is_over(&mut self) -> bool {
        if self.wanted.is_empty() {
            self.workers.clear();
        }
        self.wanted.is_empty()
    }

    /// Returns which workers there were.
    pub(super) fn workers(&self) -> &BTreeMap<Writer, Process> {
        &self.workers
    }

    /// Adds a trace of each `every`-th task; returns its number.
    pub(super) fn add(&mut self, every: u32) -> u64 {
        let number = self.next;
        self.next += 1;
        self.wanted.push((number, every));
        number
    }

    /// Removes a trace; true if it was there.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let before = self.wanted.len();
        self.wanted.retain(|&(known, _)| known != number);
        self.wanted.len() < before
    }

    /// Has the workers of `control` write what the traces want.
    pub(super) fn switch(&self, control: &Control) {
        let every = every_word(self.wanted.iter().map(|&(_, every)| every));
        for slot in 0..control.shape().slots as usize {
            // Release: pairs with the Acquire in `Tracing::read_switch` (the rings' memory).
            control.trace_switch(slot).store(every, Ordering::Release);
            control.attention(slot).call();
        }
    }
}
