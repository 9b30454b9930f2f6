//! For the fuzz target: a word that another process changes right after it was read.
//!
//! The product's words are `std`'s; only tests and the fuzz target are built with these.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64 as Word, Ordering};

/// A change to come: behind which load of this thread, and of which bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flip {
    /// Loads that still pass.
    pub(crate) loads: u32,
    /// The bits that change; 0 for all of them.
    pub(crate) mask: u64,
}

/// More than anything looks at that ends.
const MANY: u32 = 1_000_000;

thread_local! {
    static FLIP: Cell<Option<Flip>> = const { Cell::new(None) };
    /// Bits that change all the time, and how often they have; 0 for none.
    static RESTLESS: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// Has a word change right after this thread has loaded it.
pub(crate) fn start(flip: Flip) {
    FLIP.set(Some(flip));
}

/// No more changes.
pub(crate) fn stop() {
    FLIP.set(None);
}

/// Runs `look`, for which every word has other `bits` after each load, and before each exchange
/// that would go well.
///
/// # Panics
///
/// If that never ends.
#[cfg(test)]
pub(crate) fn restless<R>(bits: u64, look: impl FnOnce() -> R) -> R {
    RESTLESS.set((bits, 0));
    let result = look();
    RESTLESS.set((0, 0));
    result
}

/// An atomic word that can change between two looks of one thread.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct AtomicU64(Word);

impl AtomicU64 {
    pub(crate) const fn new(value: u64) -> Self {
        Self(Word::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        let value = self.0.load(order);
        if let Some(Flip { loads, mask }) = FLIP.get() {
            FLIP.set(loads.checked_sub(1).map(|loads| Flip { loads, mask }));
            if loads == 0 {
                self.0.fetch_xor(if mask == 0 { u64::MAX } else { mask }, Ordering::Relaxed);
            }
        }
        self.stir();
        value
    }

    /// Changes if words are restless.
    fn stir(&self) {
        let (bits, times) = RESTLESS.get();
        if bits != 0 {
            assert!(times < MANY, "it looks at words that change for ever");
            RESTLESS.set((bits, times + 1));
            self.0.fetch_xor(bits, Ordering::Relaxed);
        }
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    pub(crate) fn compare_exchange(
        &self,
        seen: u64,
        next: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        if self.0.load(Ordering::Relaxed) == seen {
            self.stir();
        }
        self.0.compare_exchange(seen, next, success, failure)
    }

    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.0.swap(value, order)
    }

    pub(crate) fn fetch_add(&self, more: u64, order: Ordering) -> u64 {
        self.0.fetch_add(more, order)
    }

    pub(crate) fn fetch_sub(&self, less: u64, order: Ordering) -> u64 {
        self.0.fetch_sub(less, order)
    }

    pub(crate) fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_or(bits, order)
    }

    pub(crate) fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_and(bits, order)
    }
}
