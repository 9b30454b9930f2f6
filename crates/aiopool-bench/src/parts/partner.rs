//! The other side of a measurement: a process or a thread, started once, asleep except during
//! blocks.

#![allow(unsafe_code)] // An island: it forks.

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aiopool::internals::Control;
use aiopool::internals::Region;
use aiopool::internals::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use aiopool::internals::spin_hint;
use aiopool::internals::sys::EventFd;
use aiopool::internals::sys::exit_now;
use aiopool::internals::sys::reap_waiting;
use aiopool::internals::sys::{PollFd, poll};
use aiopool::internals::sys::{Side, die_with_parent, fork};

use super::pinned::{Pinned, interruptions};

/// How many operations the next block has; 0 is the end.
const COUNT: usize = 0;
/// The block that the host wants.
const WANTED: usize = 16;
const READY: usize = 32;
const START: usize = 48;
const DONE: usize = 64;
/// The block whose interruptions are in `LOST`.
const TOLD: usize = 80;
const LOST: usize = 96;
/// Words from here on are the measurement's own, each on lines of its own.
const OWN: usize = 112;
const BYTES: usize = 4096;

/// A block begins with one operation per this many that does not count: caches, page faults, branch
/// history.
const WARM: u64 = 8;
/// Most repetitions of a block in which either side lost its processor to another program.
const AGAIN: usize = 4;
/// Polls for the next block before the partner goes to sleep: some microseconds, so that it is
/// asleep when a rival's block begins.
const LOOKS: usize = 500;
/// A side that has not answered for so long never will.
const GONE: Duration = Duration::from_secs(60);

/// The other side, which does its part of a block whenever the host does.
pub(super) struct Partner {
    other: Other,
    region: Arc<Region>,
    bell: EventFd,
    block: u64,
}

enum Other {
    Process(u32),
    /// Taken when it is joined.
    #[cfg_attr(not(feature = "rivals"), allow(dead_code))]
    Thread(Option<JoinHandle<()>>),
}

impl Partner {
    /// Forks a process that runs `part(shared, operations)` in every block.
    ///
    /// `part` must not wait for anything but the host's part of the same block.
    pub(super) fn fork(part: impl FnMut(&Shared, u64)) -> io::Result<Self> {
        let (region, bell) = meeting_place()?;
        // SAFETY: other threads may exist, but the copy only runs the loop below: atomics, system
        // calls and memory that was there before; glibc keeps its allocator usable after a fork.
        match unsafe { fork() }? {
            Side::Parent(pid) => Ok(Self { other: Other::Process(pid), region, bell, block: 0 }),
            Side::Child => {
                let _ = die_with_parent();
                // A panic was printed, and must not go on in the copy of our caller.
                let served = catch_unwind(AssertUnwindSafe(|| serve(&Shared(region), &bell, part)));
                exit_now(i32::from(served.is_err()))
            }
        }
    }

    /// The same in a thread of this process.
    #[cfg_attr(not(feature = "rivals"), allow(dead_code))]
    pub(super) fn thread(part: impl FnMut(&Shared, u64) + Send + 'static) -> io::Result<Self> {
        let (region, bell) = meeting_place()?;
        let (shared, theirs) = (Shared(Arc::clone(&region)), bell.try_clone()?);
        let thread = std::thread::Builder::new().spawn(move || serve(&shared, &theirs, part))?;
        Ok(Self { other: Other::Thread(Some(thread)), region, bell, block: 0 })
    }

    /// Runs one block on both sides, each on a processor of its own: the time from the common
    /// start to the end of both. `part` is called more than once: some operations to warm up come
    /// first, and a block in which either side lost its processor is run again.
    pub(super) fn block(
        &mut self,
        operations: u64,
        mut part: impl FnMut(&Shared, u64),
    ) -> Duration {
        let _pinned = Pinned::to(0);
        if operations >= WARM {
            self.once(operations / WARM, &mut part);
        }
        let mut last = self.once(operations, &mut part);
        for _ in 0..AGAIN {
            if last.1 == 0 {
                break;
            }
            last = self.once(operations, &mut part);
        }
        last.0
    }

    /// The time of one block, and how often the two sides were interrupted.
    fn once(&mut self, operations: u64, part: &mut impl FnMut(&Shared, u64)) -> (Duration, u64) {
        self.block += 1;
        let shared = Shared(Arc::clone(&self.region));
        let before = interruptions();
        // Release: pairs with the Acquire in `wait`, as all words here.
        shared.word(COUNT).store(operations, Release);
        shared.word(WANTED).store(self.block, Release);
        // The bell is our own.
        let _ = self.bell.ring();
        shared.wait(READY, self.block);
        let start = Instant::now();
        shared.word(START).store(self.block, Release);
        part(&shared, operations);
        shared.wait(DONE, self.block);
        let time = start.elapsed();
        shared.wait(TOLD, self.block);
        (time, interruptions() - before + shared.word(LOST).load(Acquire))
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        let shared = Shared(Arc::clone(&self.region));
        shared.word(COUNT).store(0, Release);
        shared.word(WANTED).store(self.block + 1, Release);
        let _ = self.bell.ring();
        match &mut self.other {
            Other::Process(pid) => drop(reap_waiting(*pid)),
            // A panic of the thread was printed when it happened.
            Other::Thread(thread) => drop(thread.take().map(JoinHandle::join)),
        }
    }
}

fn meeting_place() -> io::Result<(Arc<Region>, EventFd)> {
    let region = Arc::new(Region::create(c"aiopool-bench", BYTES)?);
    region.reserve(0, BYTES)?;
    Ok((region, EventFd::new()?))
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
        let start = Instant::now();
        for look in 1_u64.. {
            // Acquire: pairs with the Release of the stores to this word.
            if self.word(index).load(Acquire) == value {
                return;
            }
            spin_hint();
            assert!(
                !look.is_multiple_of(1 << 20) || start.elapsed() < GONE,
                "the other side is gone"
            );
        }
    }

    /// Whether `block` is wanted already, or soon.
    fn wanted_soon(&self, block: u64) -> bool {
        (0..LOOKS).any(|_| {
            spin_hint();
            self.word(WANTED).load(Acquire) == block
        })
    }
}

fn serve(shared: &Shared, bell: &EventFd, mut part: impl FnMut(&Shared, u64)) {
    let _pinned = Pinned::to(1);
    for block in 1.. {
        // A ring for a block that was found without it makes for one more look.
        while !shared.wanted_soon(block) {
            let _ = poll(&mut [PollFd::readable(bell.as_fd())], None);
            let _ = bell.drain();
        }
        let operations = shared.word(COUNT).load(Acquire);
        if operations == 0 {
            return;
        }
        let before = interruptions();
        shared.word(READY).store(block, Release);
        shared.wait(START, block);
        part(shared, operations);
        shared.word(DONE).store(block, Release);
        // The clock has stopped: this may take its time.
        shared.word(LOST).store(interruptions() - before, Release);
        shared.word(TOLD).store(block, Release);
    }
}

/// A control region that the partner has mapped, too, since it was there before the fork.
pub(super) fn control(capacity: u32) -> io::Result<Arc<Control>> {
    Control::create(aiopool::internals::Shape { capacity, slots: 2, classes: 1 }).map(Arc::new)
}

/// Forks a process that leaves at once, and reaps it.
pub(super) fn fork_and_exit() -> io::Result<()> {
    // SAFETY: the copy makes one system call.
    match unsafe { fork() }? {
        Side::Child => exit_now(0),
        Side::Parent(pid) => reap_waiting(pid).map(drop),
    }
}
