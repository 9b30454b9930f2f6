//! A task in this worker's hands, and the clock that times it.
#![forbid(unsafe_code)]

use crate::sys::clock::monotonic_ns;
use crate::table::StateWord;

/// A task that this worker has claimed.
#[derive(Clone, Copy, Debug)]
pub struct Claimed {
    /// The record's index.
    pub(crate) record: u32,
    /// The record's word, as this worker last wrote it.
    pub(crate) word: StateWord,
}

/// Returns the time that starts and ends of tasks are measured in, in nanoseconds.
pub fn now() -> u64 {
    monotonic_ns()
}
