//! Crash points: the places, numbered in the READMEs beside the structures, at which this crate's
//! own tests have a process die or stop, to see what becomes of what it held.
//!
//! Everywhere else [`here`] is nothing.

/// A crash point. The rows of the READMEs say what is left there and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// `table`: saw an entry, has not claimed it.
    C1 = 1,
    /// `table`: CLAIMED, head not moved.
    C2,
    /// `table`: CLAIMED, head moved.
    C3,
    /// `table`: RUNNING, no user code yet.
    C4,
    /// `table`: the output is described, not committed.
    C5,
    /// `table`: DONE, no lane word.
    C6,
    /// `table`: DONE and in the lane, the host not rung.
    C7,
    /// `table`: cancelled, the future dropped, not confirmed.
    C8,
    /// `arena`: a block is taken, nothing written.
    A1,
    /// `arena`: the block is written, the record does not name it.
    A2,
    /// `arena`: a block was read from the hand-back lane, and not yet freed.
    A3,
    /// `doorbell`: the host is rung, its flag still armed.
    B3,
    /// `doorbell`: a searcher has claimed and has not passed the wake-up on.
    B7,
    /// `doorbell`: known as asleep, and has not looked once more.
    B8,
    /// `control`: a phase is written, the supervisor not rung.
    P1,
    /// `launch`: the zygote is executed, the host has not heard of it.
    Z1,
    /// `launch`: the zygote has not said hello.
    Z2,
    /// `launch`: a worker that has not asked for its death signal.
    Z3,
    /// `launch`: the zygote has forked, and not said so.
    Z4,
    /// `launch`: a worker whose pidfd may not have been opened.
    Z5,
    /// `launch`: the zygote has seen a death, and not reaped.
    Z6,
    /// `launch`: the host has a pool half open.
    Z10,
}

/// Says that this process is at `point`.
#[cfg(any(not(test), aiopool_loom))]
#[inline(always)]
pub(crate) fn here(_: Point) {}

#[cfg(all(test, not(aiopool_loom)))]
pub(crate) use armed::{Action, WORKERS, arm, here};

#[cfg(all(test, not(aiopool_loom)))]
mod armed {
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use super::Point;
    use crate::sys::{pidfd, process};

    /// Those of a worker that has come to its loop.
    pub(crate) const WORKERS: [Point; 15] = {
        use Point::*;
        [C1, C2, C3, C4, C5, C6, C7, C8, A1, A2, A3, B3, B7, B8, P1]
    };

    /// What is done at the point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Action {
        /// This process is killed.
        Kill,
        /// Stops this process until it is continued.
        Stop,
    }

    static POINT: AtomicU8 = AtomicU8::new(0);
    static SIGNAL: AtomicU8 = AtomicU8::new(0);

    /// Has this process do `action` the next time it is at `point`.
    pub(crate) fn arm(point: Point, action: Action) {
        let signal = if action == Action::Kill { libc::SIGKILL } else { libc::SIGSTOP };
        SIGNAL.store(signal as u8, Relaxed);
        POINT.store(point as u8, Relaxed);
    }

    /// See the other one.
    pub(crate) fn here(point: Point) {
        if POINT.load(Relaxed) == point as u8 {
            POINT.store(0, Relaxed);
            let signal = i32::from(SIGNAL.load(Relaxed));
            let own = pidfd::open(process::own_pid()).expect("this process is there");
            pidfd::send_signal(own.as_fd(), signal).expect("a process may signal itself");
        }
    }
}
