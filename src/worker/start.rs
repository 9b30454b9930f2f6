//! What a worker process is given when it starts.
//!
//! Made by `launch` in the child, whichever way the child came to be, and consumed by
//! [`run`](super::run). Everything else in the process is as `launch/README.md` promises.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use crate::table::WorkerId;

/// One incarnation's orders.
#[derive(Debug)]
pub struct WorkerStart {
    /// Which worker this process is.
    pub id: WorkerId,
    /// Its number among all workers of the pool.
    pub seat: u32,
    /// Where its result lane goes on: the host's read position.
    pub lane_start: u64,
    /// Where the lane of blocks handed back by the host goes on.
    pub handback_start: u64,
    /// The pool's worker configuration, as the host wrote it.
    pub config: Vec<u8>,
    /// What it may touch.
    pub fds: WorkerFds,
    /// Where it sends what it logs, if the host takes it.
    pub logs: Option<OwnedFd>,
}

/// The descriptors a worker owns, all close-on-exec.
#[derive(Debug)]
pub struct WorkerFds {
    /// The control region of its queue.
    pub control: OwnedFd,
    /// The host's request arena.
    pub requests: OwnedFd,
    /// The result arena of this incarnation.
    pub outputs: OwnedFd,
    /// The doorbell the host sleeps on.
    pub host_bell: OwnedFd,
    /// The doorbell of the supervisor, rung at a change of phase.
    pub supervisor_bell: OwnedFd,
    /// The doorbells of the workers of its own queue, by slot.
    pub bells: Vec<OwnedFd>,
}
