//! A word per worker slot in which the host says that something besides tasks is to be looked at.
//!
//! `{ calls:56, -:7, stop:1 }`. The worker compares the whole word with what it saw last.

use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

const STOP: u64 = 1;
const CALL: u64 = 1 << 8;

/// A view of a worker slot's attention word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention<'m>(&'m AtomicU64);

impl<'m> Attention<'m> {
    pub(super) fn new(word: &'m AtomicU64) -> Self {
        Self(word)
    }

    /// The host wipes the word before a new incarnation is ordered.
    pub(crate) fn reset(self) {
        self.0.store(0, Relaxed);
    }

    /// One of the worker's tasks was called off; the host rings the worker after this.
    pub(crate) fn call(self) {
        // Release: pairs with the Acquire in `get` (the record's CANCELLING).
        self.0.fetch_add(CALL, Release);
    }

    /// The worker is to drop what it has and leave; the host rings the worker after this.
    pub(crate) fn stop(self) {
        // Release: as in `call`.
        self.0.fetch_or(STOP, Release);
    }

    /// The word as it is now.
    pub(crate) fn get(self) -> u64 {
        // Acquire: pairs with the Release in `call`.
        self.0.load(Acquire)
    }

    /// Whether a word says that the worker is to leave.
    pub(crate) fn says_stop(word: u64) -> bool {
        word & STOP != 0
    }
}
