//! Floor 0: the façade that chooses between the real atomics and loom's.
//!
//! Everything that more than one process or thread touches imports its atomics from here, so that
//! `RUSTFLAGS="--cfg aiopool_loom"` puts the very same protocol code under the model checker.

pub(crate) mod crash;
#[cfg(all(test, aiopool_loom))]
pub(crate) mod model;
#[cfg(all(any(test, aiopool_fuzz), not(aiopool_loom)))]
pub(crate) mod racing;
mod spin;

pub(crate) mod atomic {
    //! Atomic words and fences.
    #[cfg(all(any(test, aiopool_fuzz), not(aiopool_loom)))]
    pub use super::racing::AtomicU64;
    #[cfg(not(any(test, aiopool_fuzz, aiopool_loom)))]
    pub use std::sync::atomic::AtomicU64;
    #[cfg(not(aiopool_loom))]
    pub use std::sync::atomic::{Ordering, fence};

    #[cfg(all(test, aiopool_loom))]
    pub use super::model::AtomicU64;
    #[cfg(all(not(test), aiopool_loom))]
    pub use loom::sync::atomic::AtomicU64;
    #[cfg(aiopool_loom)]
    pub use loom::sync::atomic::{Ordering, fence};
}

pub(crate) use spin::SpinPolicy;

#[cfg(aiopool_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(aiopool_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Locks `mutex`, also after a panic of a thread that held it: what a lock of this crate guards is
/// never left half changed where user code, which may panic, is called.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A busy-wait step: tells the core, and under loom the scheduler, that nothing is to be done.
pub fn spin_hint() {
    #[cfg(not(aiopool_loom))]
    std::hint::spin_loop();
    #[cfg(aiopool_loom)]
    loom::thread::yield_now();
}
