//! Which contexts there are, and which pools are of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::supervisor;
use crate::sys::forked::PerProcess;

/// Which context it is; never the same for two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(u32);

impl ContextId {
    /// What calls without a context are about.
    pub(super) const DEFAULT: Self = Self(0);

    /// Returns another one.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// The pools that are not dropped yet, those of processes among them, with their contexts.
static POOLS: PerProcess<BTreeMap<usize, ContextId>> = PerProcess::new(|_| BTreeMap::new());

/// A pool that is not dropped yet, and keeps its context from being freed.
#[derive(Debug)]
pub(super) struct OpenPool {
    /// Its number, as messages have it.
    pub(super) pool: usize,
    pub(super) context: ContextId,
}

impl OpenPool {
    /// Takes note of a pool that is about to be started in a context.
    pub(super) fn of(context: ContextId) -> Self {
        let pool = supervisor::next_id();
        POOLS.write().insert(pool, context);
        Self { pool, context }
    }
}

impl Drop for OpenPool {
    fn drop(&mut self) {
        POOLS.write().remove(&self.pool);
    }
}

/// Returns how many pools are not dropped yet.
pub(super) fn open_pools() -> usize {
    POOLS.read().len()
}

/// Returns how many of them are of `context`.
pub(super) fn open_pools_of(context: ContextId) -> usize {
    POOLS.read().values().filter(|&&of| of == context).count()
}

/// Returns the context of pool number `pool`, if it was started by C and is not dropped.
pub(super) fn of_pool(pool: usize) -> Option<ContextId> {
    POOLS.read().get(&pool).copied()
}
