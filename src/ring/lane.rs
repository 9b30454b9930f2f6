//! A result lane: one worker slot's part of the result ring, single producer, single consumer.
//!
//! Both sides keep their position to themselves. One 8-byte store publishes; there is no count in
//! shared memory that a death could leave wrong. The lane has twice as many words as the table
//! has records, so it cannot be full (`README.md` has the count).

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::word::{index_at, slot_of, split, tag, word};

/// The worker's end.
#[derive(Debug)]
pub struct LaneWriter {
    position: u64,
}

impl LaneWriter {
    /// Starts at `position`, the host's read position when the worker was ordered.
    pub fn at(position: u64) -> Self {
        Self { position }
    }

    /// Publishes `record`; wait-free.
    pub fn push(&mut self, lane: &[AtomicU64], record: u32) {
        // Release: pairs with the Acquire in `LaneReader::peek` (the record's commit).
        slot_of(lane, self.position).store(word(self.position, record), Release);
        self.position = self.position.wrapping_add(1);
    }
}

/// The host's end.
#[derive(Debug)]
pub struct LaneReader {
    position: u64,
}

/// What the host finds in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The lane is read to its end.
    Empty,
    /// A record that its worker says is DONE: a hint, to be checked against the record.
    Record(u32),
    /// A word that no correct worker writes.
    Corrupt(u64),
}

impl LaneReader {
    /// Starts at `position`.
    pub fn at(position: u64) -> Self {
        Self { position }
    }

    /// Returns where the next word will be read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Looks at the next word without taking it.
    pub fn peek(&self, lane: &[AtomicU64]) -> Next {
        // Acquire: pairs with the Release in `LaneWriter::push`.
        let found = slot_of(lane, self.position).load(Acquire);
        let (found_tag, record) = split(found);
        if found_tag == tag(self.position) {
            Next::Record(record)
        } else if found == 0 || found_tag == tag(self.position.wrapping_sub(lane.len() as u64)) {
            Next::Empty
        } else {
            Next::Corrupt(found)
        }
    }

    /// Returns the record named by the word `ahead` further on, if it is there: no more than a
    /// hint.
    pub(crate) fn hint(&self, lane: &[AtomicU64], ahead: u64) -> Option<u32> {
        let position = self.position.wrapping_add(ahead);
        // Relaxed: nothing is read on the strength of it.
        index_at(position, slot_of(lane, position).load(Relaxed))
    }

    /// Takes the word that `peek` showed.
    pub fn advance(&mut self) {
        self.position = self.position.wrapping_add(1);
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;

    fn lane() -> Vec<AtomicU64> {
        (0..4).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn what_goes_in_comes_out_over_many_laps_and_lives() {
        let lane = lane();
        let mut reader = LaneReader::at(0);
        for life in 0..10 {
            let mut writer = LaneWriter::at(reader.position());
            for i in 0..(life % 4) {
                writer.push(&lane, i);
            }
            for i in 0..(life % 4) {
                assert_eq!(reader.peek(&lane), Next::Record(i));
                reader.advance();
            }
            assert_eq!(reader.peek(&lane), Next::Empty);
        }
    }

    #[test]
    fn a_foreign_word_is_corrupt() {
        let lane = lane();
        lane[0].store(0xDEAD_BEEF_0000_0000, Relaxed);
        assert_eq!(LaneReader::at(0).peek(&lane), Next::Corrupt(0xDEAD_BEEF_0000_0000));
    }
}
