//! The other process of a measurement: forked once, then asleep except during blocks.

#![allow(unsafe_code)] // An island: it forks.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::Control;
use crate::shm::Region;
use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use crate::sync::spin_hint;
use crate::sys::eventfd::EventFd;
use crate::sys::exit::exit_now;
use crate::sys::poll::{PollFd, poll};
use crate::sys::process::{self, Side};
use crate::sys::wait::reap_waiting;

use super::pinned::Pinned;

/// How many operations the next block has; 0 is the end.
const COUNT: usize = 0;
const READY: usize = 16;
const START: usize = 32;
const DONE: usize = 48;
/// Words from here on are the measurement's own, each on lines of its own.
const OWN: usize = 64;
const BYTES: usize = 4096;

/// A forked process that does its part of a block whenever the host does.
pub(super) struct Partner {
    pid: u32,
    region: Arc<Region>,
    bell: EventFd,
    block: u64,
}

impl Partner {
    /// Forks a process that runs `part(shared, operations)` in every block.
    ///
    /// `part` must not wait for anything but the host's part of the same block.
    pub(super) fn fork(part: impl FnMut(&Shared, u64)) -> io::Result<Self> {
        let region = Arc::new(Region::create(c"aiopool-bench", BYTES)?);
        region.reserve(0, BYTES)?;
        let bell = EventFd::new()?;
        // SAFETY: other threads may exist, but the copy only runs the loop below: atomics, system
        // calls and memory that was there before; glibc keeps its allocator usable after a fork.
        match unsafe { process::fork() }? {
            Side::Parent(pid) => Ok(Self { pid, region, bell, block: 0 }),
            Side::Child => serve(&Shared(region), &bell, part),
        }
    }

    /// Runs one block on both sides; the time from the common start to the end of both.
    pub(super) fn block(&mut self, operations: u64, part: impl FnOnce(&Shared)) -> Duration {
        self.block += 1;
        let _pinned = Pinned::to(0);
        let shared = Shared(Arc::clone(&self.region));
        shared.word(COUNT).store(operations, Release);
        // The bell is our own.
        let _ = self.bell.ring();
        shared.wait(READY, self.block);
        let start = Instant::now();
        // Release: pairs with the Acquire in `wait`, as all words here.
        shared.word(START).store(self.block, Release);
        part(&shared);
        shared.wait(DONE, self.block);
        start.elapsed()
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        Shared(Arc::clone(&self.region)).word(COUNT).store(0, Release);
        let _ = self.bell.ring();
        let _ = reap_waiting(self.pid);
    }
}

/// Memory that both sides see.
pub(super) struct Shared(Arc<Region>);

impl Shared {
    /// Word `index` of the measurement's own, alone on its cache lines.
    pub(super) fn own(&self, index: usize) -> &AtomicU64 {
        self.word(OWN + index * 16)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.0.words(index * 8, 1)[0]
    }

    fn wait(&self, index: usize, value: u64) {
        // Acquire: pairs with the Release of the stores to this word.
        while self.word(index).load(Acquire) != value {
            spin_hint();
        }
    }
}

fn serve(shared: &Shared, bell: &EventFd, mut part: impl FnMut(&Shared, u64)) -> ! {
    let _ = process::die_with_parent();
    let _pinned = Pinned::to(1);
    for block in 1.. {
        while !bell.drain().unwrap_or(true) {
            let _ = poll(&mut [PollFd::readable(bell.as_fd())], None);
        }
        let operations = shared.word(COUNT).load(Acquire);
        if operations == 0 {
            break;
        }
        shared.word(READY).store(block, Release);
        shared.wait(START, block);
        part(shared, operations);
        shared.word(DONE).store(block, Release);
    }
    exit_now(0)
}

/// A control region that the partner has mapped, too, since it was there before the fork.
pub(super) fn control(capacity: u32) -> io::Result<Arc<Control>> {
    Control::create(crate::control::Shape { capacity, slots: 2, classes: 1 }).map(Arc::new)
}

/// Forks a process that leaves at once, and reaps it.
pub(super) fn fork_and_exit() -> io::Result<()> {
    // SAFETY: the copy makes one system call.
    match unsafe { process::fork() }? {
        Side::Child => exit_now(0),
        Side::Parent(pid) => reap_waiting(pid).map(drop),
    }
}
