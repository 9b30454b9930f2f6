//! Copies of memory: the floor under large payloads, taken in the best of several layouts.

use std::time::Instant;

use crate::contest::quantile;

/// Memory starts at such an address, and so does the first buffer.
const PAGE: usize = 4096;
/// How far, beyond whole pages, each buffer lies from the one before. Processors mistake a load
/// for one that follows a store 4 KiB away, so a target that lies a few bytes behind its source in
/// that sense is copied to more slowly; which distance is best is the machine's affair.
const DISTANCES: [usize; 5] = [0, 64, 192, 1024, 2048];

/// Buffers in a row, each to be copied to the next.
pub struct Copies {
    memory: Vec<u8>,
    /// Where each buffer begins.
    starts: Vec<usize>,
    size: usize,
}

impl Copies {
    /// For `count` copies of `size` bytes, in the layout that is fastest here.
    pub fn of(size: usize, count: usize) -> Self {
        let layouts = DISTANCES.into_iter().map(|distance| Self::apart(size, count, distance));
        let timed = layouts.map(|mut copies| {
            let times: Vec<f64> = (0..50).map(|_| copies.timed()).collect();
            (quantile(&times, 0.5), copies)
        });
        let (_, best) = timed.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are layouts");
        best
    }

    fn apart(size: usize, count: usize, distance: usize) -> Self {
        let step = size.next_multiple_of(PAGE) + distance;
        // Written, not only allocated: pages that are read first are all the same page of zeros.
        let memory = vec![1; PAGE + (count + 1) * step];
        let first = memory.as_ptr().align_offset(PAGE);
        Self { memory, starts: (0..=count).map(|i| first + i * step).collect(), size }
    }

    /// Every copy once.
    pub fn once(&mut self) {
        for pair in self.starts.windows(2) {
            let (before, after) = self.memory.split_at_mut(pair[1]);
            let from = std::hint::black_box(&before[pair[0]..pair[0] + self.size]);
            after[..self.size].copy_from_slice(from);
            std::hint::black_box(&mut after[..self.size]);
        }
    }

    /// Every copy once, in nanoseconds.
    pub fn timed(&mut self) -> f64 {
        let start = Instant::now();
        self.once();
        start.elapsed().as_nanos() as f64
    }
}
