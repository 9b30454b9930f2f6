//! Which of the worker's futures want to be polled: one bit a slot, set by any thread.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use crate::sync::{Mutex, lock};

/// The ready slots, and the waker of the future that polls them.
#[derive(Debug)]
pub(crate) struct ReadySet {
    words: Box<[AtomicU64]>,
    root: Mutex<Option<Waker>>,
}

impl ReadySet {
    /// For `slots` slots, none of them ready.
    pub(crate) fn new(slots: usize) -> Arc<Self> {
        let words = (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { words, root: Mutex::new(None) })
    }

    /// Sets the waker to call when a slot becomes ready.
    pub(crate) fn set_root(&self, waker: &Waker) {
        let mut root = lock(&self.root);
        if !root.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *root = Some(waker.clone());
        }
    }

    /// Returns a waker for `slot`. One is enough for all futures that ever sit there: a stale clone
    /// costs a poll and nothing else.
    pub(crate) fn waker(self: &Arc<Self>, slot: usize) -> Waker {
        Waker::from(Arc::new(SlotWaker { slot, set: Arc::clone(self) }))
    }

    /// Takes a ready slot, looking from `start` on and around.
    pub(crate) fn take(&self, start: usize) -> Option<usize> {
        if !self.any() {
            return None;
        }
        let words = self.words.len();
        let first = start / 64 % words;
        for turn in 0..=words {
            let index = (first + turn) % words;
            // Acquire: pairs with the AcqRel in `wake` (what the future will look at).
            let mut bits = self.words[index].load(Acquire);
            if turn == 0 {
                bits &= u64::MAX << (start % 64);
            }
            if bits != 0 {
                let bit = bits & bits.wrapping_neg();
                self.words[index].fetch_and(!bit, AcqRel);
                return Some(index * 64 + bit.trailing_zeros() as usize);
            }
        }
        None
    }

    /// Returns whether some slot is ready.
    pub(crate) fn any(&self) -> bool {
        // Acquire: as in `take`.
        self.words.iter().any(|word| word.load(Acquire) != 0)
    }
}

struct SlotWaker {
    slot: usize,
    set: Arc<ReadySet>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let bit = 1 << (self.slot % 64);
        // AcqRel: pairs with the Acquire in `take`.
        let before = self.set.words[self.slot / 64].fetch_or(bit, AcqRel);
        if before & bit == 0 {
            let root = lock(&self.set.root);
            if let Some(root) = root.as_ref() {
                root.wake_by_ref();
            }
        }
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_wake_is_taken_once_and_in_turn() {
        let set = ReadySet::new(130);
        let wakers: Vec<Waker> = (0..130).map(|slot| set.waker(slot)).collect();
        for slot in [0, 3, 64, 129, 64] {
            wakers[slot].wake_by_ref();
        }
        assert!(set.any());
        let taken = [1, 65, 0, 0].map(|start| set.take(start));
        assert_eq!(taken, [Some(3), Some(129), Some(0), Some(64)]);
        assert_eq!(set.take(0), None);
        assert!(!set.any());
    }
}
