//! A queue as one would build it of `shared_memory` and `raw_sync`: a ring and two counts behind a
//! process-shared mutex. Fast as long as nobody dies with the mutex held.

#![allow(unsafe_code)] // An island: raw memory behind a foreign lock.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use raw_sync::locks::{LockImpl, LockInit, Mutex};
use shared_memory::{Shmem, ShmemConf};

use crate::sync::spin_hint;

use super::partner::Partner;

const CAPACITY: u64 = 2048;
/// Bytes of the mapping before the data that the lock guards.
const DATA: usize = 128;

/// This process pushes, the partner pops.
pub struct LockedQueue {
    partner: Partner,
    shared: Arc<Shared>,
}

struct Shared {
    lock: Box<dyn LockImpl>,
    /// Keeps the mapping.
    _memory: Shmem,
}

impl LockedQueue {
    pub fn new() -> io::Result<Self> {
        let size = DATA + (2 + CAPACITY as usize) * 8;
        let memory = ShmemConf::new().size(size).create().map_err(io::Error::other)?;
        let base = memory.as_ptr();
        // SAFETY: the mapping is `size` bytes, zero, and lives as long as the lock; a mutex takes
        // fewer than `DATA` of them.
        let made = unsafe { Mutex::new(base, base.add(DATA)) };
        let (lock, used) = made.map_err(|error| io::Error::other(error.to_string()))?;
        assert!(used <= DATA);
        // The box is not `Send`, but a forked process shares nothing but the mapping.
        #[allow(clippy::arc_with_non_send_sync)]
        let shared = Arc::new(Shared { lock, _memory: memory });
        let theirs = Arc::clone(&shared);
        let mut sum = 0_u64;
        let partner = Partner::fork(move |_, operations| {
            for _ in 0..operations {
                sum = sum.wrapping_add(repeat(|| theirs.pop()));
            }
            std::hint::black_box(sum);
        })?;
        Ok(Self { partner, shared })
    }

    /// So many values of 8 bytes.
    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { partner, shared } = self;
        partner.block(operations, |_| {
            for value in 0..operations {
                repeat(|| shared.push(value));
            }
        })
    }
}

fn repeat<T>(mut once: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(done) = once() {
            return done;
        }
        spin_hint();
    }
}

impl Shared {
    /// Head, tail and the values, under the lock.
    fn with<T>(&self, f: impl FnOnce(&mut [u64]) -> T) -> T {
        let guard = self.lock.lock().expect("nobody died with the lock held");
        // SAFETY: aligned (the mapping is by pages, `DATA` by 8) and within the mapping; the lock
        // makes this the only reference.
        let words = unsafe {
            std::slice::from_raw_parts_mut((*guard).cast::<u64>(), 2 + CAPACITY as usize)
        };
        f(words)
    }

    fn push(&self, value: u64) -> Option<()> {
        self.with(|words| {
            let [head, tail] = [words[0], words[1]];
            (tail - head < CAPACITY).then(|| {
                words[2 + (tail % CAPACITY) as usize] = value;
                words[1] = tail + 1;
            })
        })
    }

    fn pop(&self) -> Option<u64> {
        self.with(|words| {
            let [head, tail] = [words[0], words[1]];
            (head < tail).then(|| {
                words[0] = head + 1;
                words[2 + (head % CAPACITY) as usize]
            })
        })
    }
}
