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

thread_local! {
    static FLIP: Cell<Option<Flip>> = const { Cell::new(None) };
}

/// Has a word change right after this thread has loaded it.
pub(crate) fn start(flip: Flip) {
    FLIP.set(Some(flip));
}

/// No more changes.
pub(crate) fn stop() {
    FLIP.set(None);
}

/// An atomic word that can change between two looks of one thread.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct AtomicU64(Word);

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
        value
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
        self.0.compare_exchange(seen, next, success, failure)
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
