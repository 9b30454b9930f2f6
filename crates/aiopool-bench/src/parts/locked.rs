//! A queue as one would build it of `shared_memory` and `raw_sync`: a ring and two counts behind a
//! process-shared mutex, with or without events to wait on. Fast as long as no process dies with
//! the mutex held.

#![allow(unsafe_code)] // An island: raw memory behind a foreign lock.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use raw_sync::locks::{LockImpl, LockInit, Mutex};
use shared_memory::{Shmem, ShmemConf};

use aiopool::internals::spin_hint;

use super::partner::Partner;

const CAPACITY: u64 = 2048;
/// Bytes of the mapping for the mutex and for each event.
const PART: usize = 256;
/// Where the data begins that the lock guards: two counts, then the values.
const DATA: usize = 3 * PART;

/// What a side does that finds the queue empty, or full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It looks again.
    Spins,
    /// It waits until the other side says that this has changed.
    Waits,
}

/// This process pushes, the partner pops.
pub struct LockedQueue {
    partner: Partner,
    shared: Arc<Shared>,
}

struct Shared {
    lock: Box<dyn LockImpl>,
    not_empty: Box<dyn EventImpl>,
    not_full: Box<dyn EventImpl>,
    idle: Idle,
    /// Keeps the mapping.
    _memory: Shmem,
}

impl LockedQueue {
    pub fn new(idle: Idle) -> io::Result<Self> {
        let size = DATA + (2 + CAPACITY as usize) * 8;
        let memory = ShmemConf::new().size(size).create().map_err(io::Error::other)?;
        // The boxes are not `Send`, but a forked process shares nothing but the mapping.
        #[allow(clippy::arc_with_non_send_sync)]
        let shared = Arc::new(Shared::over(memory, idle)?);
        let theirs = Arc::clone(&shared);
        let mut sum = 0_u64;
        let partner = Partner::fork(move |_, operations| {
            for _ in 0..operations {
                sum = sum.wrapping_add(theirs.pop());
            }
            std::hint::black_box(sum);
        })?;
        Ok(Self { partner, shared })
    }

    /// Sends `operations` values of 8 bytes.
    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { partner, shared } = self;
        partner
            .block(operations, |_, operations| (0..operations).for_each(|value| shared.push(value)))
    }
}

impl Shared {
    fn over(memory: Shmem, idle: Idle) -> io::Result<Self> {
        let base = memory.as_ptr();
        let refused = |error: Box<dyn std::error::Error>| io::Error::other(error.to_string());
        // SAFETY: the mapping is zero, longer than `DATA`, and lives as long as the lock; a mutex
        // takes fewer than `PART` bytes, which is checked.
        let (lock, used) = unsafe { Mutex::new(base, base.add(DATA)) }.map_err(refused)?;
        assert!(used <= PART);
        let event = |number: usize| {
            // SAFETY: likewise, with a part of the mapping for each of the two events.
            let made = unsafe { Event::new(base.add(number * PART), true) };
            made.map(|(event, used)| {
                assert!(used <= PART);
                event
            })
        };
        let (not_empty, not_full) = (event(1).map_err(refused)?, event(2).map_err(refused)?);
        Ok(Self { lock, not_empty, not_full, idle, _memory: memory })
    }

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

    fn push(&self, value: u64) {
        let was_empty = self.repeat(&*self.not_full, |words| {
            let [head, tail] = [words[0], words[1]];
            (tail - head < CAPACITY).then(|| {
                words[2 + (tail % CAPACITY) as usize] = value;
                words[1] = tail + 1;
                tail == head
            })
        });
        self.say(was_empty, &*self.not_empty);
    }

    fn pop(&self) -> u64 {
        let (value, was_full) = self.repeat(&*self.not_empty, |words| {
            let [head, tail] = [words[0], words[1]];
            (head < tail).then(|| {
                words[0] = head + 1;
                (words[2 + (head % CAPACITY) as usize], tail - head == CAPACITY)
            })
        });
        self.say(was_full, &*self.not_full);
        value
    }

    fn say(&self, changed: bool, event: &dyn EventImpl) {
        if changed && self.idle == Idle::Waits {
            event.set(EventState::Signaled).expect("an event can be set");
        }
    }

    fn repeat<T>(&self, event: &dyn EventImpl, once: impl Fn(&mut [u64]) -> Option<T>) -> T {
        loop {
            if let Some(done) = self.with(&once) {
                return done;
            }
            match self.idle {
                Idle::Spins => spin_hint(),
                Idle::Waits => event.wait(Timeout::Infinite).expect("an event can be waited for"),
            }
        }
    }
}
