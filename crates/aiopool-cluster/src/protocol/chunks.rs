//! Which tasks of a job are over, by chunks, and which chunks may be purged.

use std::collections::BTreeMap;

/// Tasks in a chunk: one purge frees them all, and takes the server a few milliseconds.
pub const CHUNK: u64 = 1024;

/// The chunks of a job that are not purged yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chunks {
    /// By chunk: tasks that were submitted, and how many of them are over.
    open: BTreeMap<u64, (u64, u64)>,
}

impl Chunks {
    /// Returns the chunk that task `n` belongs to.
    #[must_use]
    pub fn of(n: u64) -> u64 {
        n / CHUNK
    }

    /// Takes note that task `n` is submitted.
    pub fn submitted(&mut self, n: u64) {
        self.open.entry(Self::of(n)).or_default().0 += 1;
    }

    /// Takes note that the outcome of task `n` is delivered, and no message of it is on its way.
    ///
    /// Returns the chunk if it is full and over: then it is to be marked, and then purged.
    #[must_use]
    pub fn over(&mut self, n: u64) -> Option<u64> {
        let chunk = Self::of(n);
        let counts = self.open.get_mut(&chunk)?;
        counts.1 += 1;
        if *counts != (CHUNK, CHUNK) {
            return None;
        }
        self.open.remove(&chunk);
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_over_when_all_of_its_tasks_are_and_not_before() {
        let mut chunks = Chunks::default();
        (0..CHUNK + 1).for_each(|n| chunks.submitted(n));
        for n in (1..CHUNK).rev() {
            assert_eq!(chunks.over(n), None);
        }
        assert_eq!(chunks.over(CHUNK), None, "the next chunk is not full");
        assert_eq!(chunks.over(0), Some(0));
    }
}
