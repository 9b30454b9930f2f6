//! A word per worker slot in which the host says that something besides tasks is to be looked at.
//!
//! `{ calls:40, asks:16, assigns:7, stop:1 }`. The worker compares the whole word with what it saw
//! last; that one number may run over into the next does no harm.

use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

const STOP: u64 = 1;
const ASSIGN: u64 = 1 << 1;
const ASK: u64 = 1 << 8;
const CALL: u64 = 1 << 24;

/// A view of a worker slot's attention word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention<'m>(&'m AtomicU64);

impl<'m> Attention<'m> {
    /// Returns the attention that is `word`.
    pub(crate) fn new(word: &'m AtomicU64) -> Self {
        Self(word)
    }

    /// The host wipes the word before a new incarnation is ordered.
    pub(crate) fn reset(self) {
        self.0.store(0, Relaxed);
    }

    /// One of the worker's tasks was cancelled; the host rings the worker after this.
    pub(crate) fn call(self) {
        // Release: pairs with the Acquire in `get` (the record's CANCELLING).
        self.0.fetch_add(CALL, Release);
    }

    /// The worker is to look whether it has all that the records say it has; the host rings it
    /// after this.
    pub(crate) fn ask(self) {
        // Relaxed: what the records say was there before, and the worker reads it with Acquire.
        self.0.fetch_add(ASK, Relaxed);
    }

    /// The worker has a task that the host claimed for it; the host rings it after this.
    pub(crate) fn assign(self) {
        // Release: pairs with the Acquire in `get` (the record's CLAIMED).
        self.0.fetch_add(ASSIGN, Release);
    }

    /// The worker is to drop what it has and leave; the host rings the worker after this.
    pub(crate) fn stop(self) {
        // Release: as in `call`.
        self.0.fetch_or(STOP, Release);
    }

    /// Returns the current word.
    pub(crate) fn get(self) -> u64 {
        // Acquire: pairs with the Release in `call`.
        self.0.load(Acquire)
    }

    /// Returns whether the audit asked between two words.
    pub(crate) fn asked(before: u64, now: u64) -> bool {
        (before ^ now) & (CALL - ASK) != 0
    }

    /// Returns whether a task was assigned between two words.
    pub(crate) fn assigned(before: u64, now: u64) -> bool {
        (before ^ now) & (ASK - ASSIGN) != 0
    }

    /// Returns whether a word says that the worker is to leave.
    pub(crate) fn says_stop(word: u64) -> bool {
        word & STOP != 0
    }
}
