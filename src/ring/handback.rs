//! The hand-back lane: the host returns output blocks to the worker that allocated them.
//!
//! Words are `{ tag:32, block:32 }`. What does not fit waits in the host; the worker publishes how
//! far it has read in a word of its own.

use crate::arena::Block;
use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use super::word::slot_of;

/// The host's end of a hand-back lane.
#[derive(Debug)]
pub(crate) struct HandbackWriter {
    position: u64,
}

impl HandbackWriter {
    /// Starts at `position`.
    pub(crate) fn at(position: u64) -> Self {
        Self { position }
    }

    /// Returns where the next word goes.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns whether what the worker has not taken yet still stands there; only the host writes
    /// it.
    ///
    /// A word that is gone would have the worker wait for it, and for all behind it, for ever.
    /// The caller keeps others from handing back meanwhile.
    pub(crate) fn is_intact(&self, lane: &[AtomicU64], taken: &AtomicU64) -> bool {
        let taken = taken.load(Relaxed);
        let lag = self.position.wrapping_sub(taken);
        let stands = |position| slot_of(lane, position).load(Relaxed) >> 32 == tag(position);
        lag <= lane.len() as u64 && (0..lag).all(|n| stands(taken.wrapping_add(n)))
    }

    /// Hands `block` back, unless the lane is full; `taken` is the word the worker publishes.
    #[must_use]
    pub(crate) fn try_push(&mut self, lane: &[AtomicU64], taken: &AtomicU64, block: Block) -> bool {
        // Acquire: pairs with the Release in `HandbackReader::take` (the slot was read).
        let lag = self.position.wrapping_sub(taken.load(Acquire));
        if lag >= lane.len() as u64 {
            return false;
        }
        let word = tag(self.position) << 32 | u64::from(block.bits());
        // Release: pairs with the Acquire in `HandbackReader::take` (the host is done reading).
        slot_of(lane, self.position).store(word, Release);
        self.position = self.position.wrapping_add(1);
        true
    }
}

/// The worker's end of a hand-back lane.
#[derive(Debug)]
pub(crate) struct HandbackReader {
    position: u64,
}

impl HandbackReader {
    /// Starts at `position`.
    pub(crate) fn at(position: u64) -> Self {
        Self { position }
    }

    /// Returns the next block that the host is done with.
    pub(crate) fn take(&mut self, lane: &[AtomicU64], taken: &AtomicU64) -> Option<Block> {
        // Acquire: pairs with the Release in `HandbackWriter::try_push`.
        let word = slot_of(lane, self.position).load(Acquire);
        if word >> 32 != tag(self.position) {
            return None;
        }
        self.position = self.position.wrapping_add(1);
        self.say(taken);
        Some(Block::from_bits(word as u32))
    }

    /// What was taken last is no block of this worker's: nothing more is taken, and the position
    /// that is said from here on is one that cannot be, by which the host knows.
    pub(crate) fn refuse(&mut self, taken: &AtomicU64) {
        self.position = self.position.wrapping_sub(1 << 63);
        self.say(taken);
    }

    /// Says how far it has read; once more when it is asked, for who wrote something else there.
    pub(crate) fn say(&self, taken: &AtomicU64) {
        // Release: pairs with the Acquire in `HandbackWriter::try_push`.
        taken.store(self.position, Release);
    }
}

/// Never 0, so that a zeroed lane is empty.
fn tag(position: u64) -> u64 {
    position % u64::from(u32::MAX) + 1
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_refuses_and_takes_again_when_read() {
        let lane: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let taken = AtomicU64::new(0);
        let (mut host, mut worker) = (HandbackWriter::at(0), HandbackReader::at(0));
        for lap in 0..5 {
            let blocks: Vec<Block> = (0..4).map(|i| Block::from_bits(lap * 4 + i)).collect();
            assert!(blocks.iter().all(|&block| host.try_push(&lane, &taken, block)));
            assert!(!host.try_push(&lane, &taken, blocks[0]));
            for &block in &blocks {
                assert_eq!(worker.take(&lane, &taken), Some(block));
            }
            assert_eq!(worker.take(&lane, &taken), None);
        }
    }

    #[test]
    fn a_word_that_is_gone_before_it_was_taken_is_noticed() {
        let lane: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let taken = AtomicU64::new(0);
        let (mut host, mut worker) = (HandbackWriter::at(0), HandbackReader::at(0));
        for n in 0..6 {
            assert!(host.is_intact(&lane, &taken));
            assert!(host.try_push(&lane, &taken, Block::from_bits(n)));
            assert!(host.is_intact(&lane, &taken));
            assert!(worker.take(&lane, &taken).is_some());
        }
        assert!(host.try_push(&lane, &taken, Block::from_bits(6)));
        assert!(host.try_push(&lane, &taken, Block::from_bits(7)));
        lane[7 % 4].store(0, Relaxed);
        assert!(!host.is_intact(&lane, &taken), "a word is gone");
        lane[6 % 4].store(0, Relaxed);
        taken.store(8, Relaxed);
        assert!(host.is_intact(&lane, &taken), "what was taken may be anything");
        taken.store(9, Relaxed);
        assert!(!host.is_intact(&lane, &taken), "more was taken than there was");
    }
}
