//! What the zygote needs to know about a pool, and about each worker that it starts.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::Confinement;
use crate::table::WorkerId;

/// How worker processes come to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartMethod {
    /// Forked from the zygote: starts in about a millisecond and shares the zygote's memory.
    #[default]
    Fork,
    /// Forked and executed anew as the same binary: shares nothing, for code that does not
    /// survive a `fork`.
    Spawn,
    /// Forked and executed as the given program with its arguments, for workers in other
    /// languages; it attaches by inherited descriptors.
    Command(Vec<OsString>),
    /// Forked from the given program with its arguments, which is this pool's own zygote: workers
    /// share what it has loaded before it [serves](crate::Template::serve).
    Preloaded(Vec<OsString>),
}

impl StartMethod {
    /// Returns whether workers are another program than the host's.
    pub(crate) fn is_other_program(&self) -> bool {
        matches!(self, Self::Command(_) | Self::Preloaded(_))
    }
}

/// One pool, as the zygote keeps it; sent once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolSpec {
    /// Per queue, the number of worker slots.
    pub slots: Vec<u32>,
    /// How workers come to be.
    pub start: StartMethod,
    /// What workers have and may do.
    pub confinement: Confinement,
    /// Workers must share what the host had at `init`: a zygote that was executed will not do.
    pub snapshot: bool,
    /// A timer comes with the descriptors: when it is over, the pool's workers are killed, and
    /// there are no others.
    pub deadline: bool,
    /// A socket comes with the descriptors on which workers send what they log.
    pub logs: bool,
    /// A descriptor comes with the others that the zygote and each worker keep open to their end.
    pub held: bool,
    /// The stats page: its file, and when it was made. Removed when the host dies.
    pub page: Option<(String, u64)>,
    /// The worker configuration, handed on as it is.
    pub worker: Vec<u8>,
}

/// The descriptors of a pool, which the zygote keeps for respawns.
#[derive(Debug)]
pub(crate) struct PoolFds<'a> {
    /// The request arena.
    pub requests: BorrowedFd<'a>,
    /// The doorbell of the host.
    pub host_bell: BorrowedFd<'a>,
    /// The doorbell of the supervisor, which workers ring when they change phase.
    pub supervisor_bell: BorrowedFd<'a>,
    /// The timer of a pool with a deadline.
    pub deadline: Option<BorrowedFd<'a>>,
    /// The workers' end of the socket for what they log, where the host takes it.
    pub logs: Option<BorrowedFd<'a>>,
    /// What the zygote and each worker keep open to their end.
    pub held: Option<BorrowedFd<'a>>,
    /// Per queue, its control region.
    pub control: Vec<BorrowedFd<'a>>,
    /// Per queue and slot, the doorbell of that worker.
    pub bells: Vec<Vec<BorrowedFd<'a>>>,
}

/// The order to start one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForkOrder {
    /// Which one: its incarnation has never been used for this slot.
    pub id: WorkerId,
    /// Its number among all workers of the pool.
    pub seat: u32,
    /// Where its result lane goes on.
    pub lane_start: u64,
    /// Where the lane of blocks handed back goes on.
    pub handback_start: u64,
}

/// Returns how many descriptors a pool needs at most, in the host and, about as many, in the
/// zygote.
///
/// Counts every slot's doorbell, result arena and pidfd, the regions, and what launching takes.
pub(crate) fn fds_needed(spec: &PoolSpec) -> usize {
    const PER_SLOT: usize = 3; // doorbell, result arena, pidfd
    const PER_POOL: usize = 7; // request arena twice, host's and supervisor's doorbells, line to
    // the zygote, the two ends of the socket for logs
    const PER_PROCESS: usize = 8; // zygote's line and pidfd, and what is open only during a call
    let slots: usize = spec.slots.iter().map(|&slots| slots as usize).sum();
    slots * PER_SLOT + spec.slots.len() + PER_POOL + PER_PROCESS
}
