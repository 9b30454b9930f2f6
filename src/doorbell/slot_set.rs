//! A set of worker slots in shared words, one bit each: those that sleep, or those that search.
//!
//! Bits, not counts: what a dead process left set is cleared by name.

use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed};

/// A view of a set of worker slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotSet<'m>(&'m [AtomicU64]);

// All other accesses are Relaxed: the doorbell's fences order them against the rings.
impl<'m> SlotSet<'m> {
    /// Returns the set whose bits are in `words`, 64 slots a word.
    pub(crate) fn new(words: &'m [AtomicU64]) -> Self {
        Self(words)
    }

    /// Adds `slot`.
    pub(crate) fn insert(self, slot: usize) {
        self.0[slot / 64].fetch_or(1 << (slot % 64), Relaxed);
    }

    /// Removes `slot`; true if it was there.
    pub(crate) fn remove(self, slot: usize) -> bool {
        let bit = 1 << (slot % 64);
        // Acquire: pairs with B4 and the removal after it. A worker whose bit the host has cleared
        // sees the entry that it was cleared for.
        self.0[slot / 64].fetch_and(!bit, Acquire) & bit != 0
    }

    /// Returns whether `slot` is in the set.
    pub(crate) fn has(self, slot: usize) -> bool {
        self.0[slot / 64].load(Relaxed) & 1 << (slot % 64) != 0
    }

    /// Removes every slot that `keep` does not know.
    pub(crate) fn retain(self, keep: impl Fn(usize) -> bool) {
        for (index, word) in self.0.iter().enumerate() {
            let seen = word.load(Relaxed);
            for bit in (0..64).filter(|bit| seen & 1 << bit != 0) {
                let slot = index * 64 + bit;
                if !keep(slot) {
                    self.remove(slot);
                }
            }
        }
    }

    /// Returns how many slots there is room for.
    pub(crate) fn most(self) -> usize {
        64 * self.0.len()
    }

    /// Returns how many slots are in the set.
    pub(crate) fn len(self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Relaxed).count_ones())).sum()
    }

    /// Some slot of the set, looking from `start` on and around.
    pub(crate) fn find(self, start: usize) -> Option<usize> {
        // Most looks find none, and need no place to begin.
        if self.0.iter().all(|word| word.load(Relaxed) == 0) {
            return None;
        }
        let words = self.0.len();
        let first = start / 64 % words;
        // One turn more than there are words: the first is looked at in two halves.
        (0..=words).find_map(|turn| {
            let index = (first + turn) % words;
            let mut bits = self.0[index].load(Relaxed);
            if turn == 0 {
                bits &= u64::MAX << (start % 64);
            }
            (bits != 0).then(|| index * 64 + bits.trailing_zeros() as usize)
        })
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn finds_each_from_everywhere() {
        let words: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        let set = SlotSet::new(&words);
        assert_eq!(set.find(5), None);
        for slot in [0, 63, 64, 100, 191] {
            set.insert(slot);
            for start in 0..200 {
                assert_eq!(set.find(start), Some(slot), "from {start}");
            }
            assert!(set.remove(slot));
            assert!(!set.remove(slot));
        }
    }

    #[test]
    fn looks_from_the_start_on_and_then_around() {
        let words: Vec<AtomicU64> = (0..2).map(|_| AtomicU64::new(0)).collect();
        let set = SlotSet::new(&words);
        [3, 70].into_iter().for_each(|slot| set.insert(slot));
        assert_eq!((set.find(0), set.find(4), set.find(71)), (Some(3), Some(70), Some(3)));
        assert_eq!(set.len(), 2);
    }
}
