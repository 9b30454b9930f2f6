//! What the machine itself costs: nothing that crosses processes can be faster.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use aiopool::internals::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use aiopool::internals::atomic::fence;
use aiopool::internals::spin_hint;
use aiopool::internals::sys::EventFd;
use aiopool::internals::sys::{PollFd, poll};

use super::partner::{self, Partner, Shared};

/// One cache line that goes to and fro between two processes on two processors.
pub struct CacheLine(Partner);

const THERE: usize = 0;

impl CacheLine {
    pub fn new() -> io::Result<Self> {
        // One word for both directions: the line itself bounces, and nothing else.
        Partner::fork(|shared, operations| {
            let word = shared.own(THERE);
            for i in 0..operations {
                // Acquire and Release, here and below: as any protocol would need.
                while word.load(Acquire) != 2 * i + 1 {
                    spin_hint();
                }
                word.store(2 * i + 2, Release);
            }
            word.store(0, Release);
        })
        .map(Self)
    }

    /// Makes `operations` round trips.
    pub fn block(&mut self, operations: u64) -> Duration {
        self.0.block(operations, |shared: &Shared, operations| {
            let word = shared.own(THERE);
            for i in 0..operations {
                word.store(2 * i + 1, Release);
                while word.load(Acquire) == 2 * i + 1 {
                    spin_hint();
                }
            }
        })
    }
}

/// The accesses of a round trip through ring, table and lane, and nothing else: a word that says
/// which record, the record with a word changed three times, a word back.
pub struct BareAccesses(Partner);

/// Words of the measurement that stand for the ring slot, the record and the lane. What a block
/// leaves in them is more than 1, with which the next one begins.
const SLOT: usize = 1;
const RECORD: usize = 2;
const LANE: usize = 3;

impl BareAccesses {
    pub fn new() -> io::Result<Self> {
        Partner::fork(|shared, operations| {
            let [slot, record, lane] = [SLOT, RECORD, LANE].map(|index| shared.own(index));
            for i in 1..=operations {
                // Acquire and Release, here and below: as the protocol has them.
                while slot.load(Acquire) != i {
                    spin_hint();
                }
                let mut state = record.load(Acquire);
                // Claim, start and commit.
                for _ in 0..3 {
                    let changed = record.compare_exchange(state, state + 1, AcqRel, Relaxed);
                    state = changed.expect("nobody else changes it") + 1;
                }
                lane.store(i, Release);
            }
        })
        .map(Self)
    }

    /// Makes `operations` round trips.
    pub fn block(&mut self, operations: u64) -> Duration {
        self.0.block(operations, |shared, operations| {
            let [slot, record, lane] = [SLOT, RECORD, LANE].map(|index| shared.own(index));
            for i in 1..=operations {
                record.store(4 * i, Release);
                slot.store(i, Release);
                fence(SeqCst);
                while lane.load(Acquire) != i {
                    spin_hint();
                }
                assert_eq!(record.load(Acquire), 4 * i + 3);
            }
        })
    }
}

/// Two processes that wake each other through eventfds, asleep in between.
pub struct Bells {
    partner: Partner,
    there: EventFd,
    back: EventFd,
}

fn wait(bell: &EventFd) {
    // Asleep first: the other side never has rung when one comes here.
    loop {
        let _ = poll(&mut [PollFd::readable(bell.as_fd())], None);
        if bell.drain().unwrap_or(true) {
            return;
        }
    }
}

impl Bells {
    pub fn new() -> io::Result<Self> {
        let (there, back) = (EventFd::new()?, EventFd::new()?);
        let (theirs, ours) = (there.try_clone()?, back.try_clone()?);
        let partner = Partner::fork(move |_, operations| {
            for _ in 0..operations {
                wait(&theirs);
                let _ = ours.ring();
            }
        })?;
        Ok(Self { partner, there, back })
    }

    /// Makes `operations` round trips, each with two wake-ups.
    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { partner, there, back } = self;
        partner.block(operations, |_, operations| {
            for _ in 0..operations {
                let _ = there.ring();
                wait(back);
            }
        })
    }
}

impl Bells {
    /// One round trip after a pause in which both sides have gone to sleep.
    pub fn after_pause(&mut self, pause: Duration) -> Duration {
        let Self { partner, there, back } = self;
        let mut time = Duration::ZERO;
        partner.block(1, |_, _| {
            std::thread::sleep(pause);
            let start = Instant::now();
            let _ = there.ring();
            wait(back);
            time = start.elapsed();
        });
        time
    }
}

/// The time from a fork to the end of a child that does nothing but leave.
pub fn fork_and_exit() -> io::Result<Duration> {
    let start = Instant::now();
    partner::fork_and_exit()?;
    Ok(start.elapsed())
}
