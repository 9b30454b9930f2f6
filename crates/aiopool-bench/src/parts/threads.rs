//! Queues between threads are measured the way ours are between processes: the same start, the
//! same warm-up, the same two processors.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use super::partner::Partner;

/// A thread that does its part of every block.
pub struct Threads(Partner);

impl Threads {
    /// `part(operations)` is the thread's part.
    pub fn new(mut part: impl FnMut(u64) + Send + 'static) -> io::Result<Self> {
        Partner::thread(move |_, operations| part(operations)).map(Self)
    }

    /// Runs this many operations on both sides; `part` is the caller's.
    pub fn block(&mut self, operations: u64, mut part: impl FnMut(u64)) -> Duration {
        self.0.block(operations, |_, operations| part(operations))
    }
}
