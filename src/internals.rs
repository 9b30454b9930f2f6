//! The parts below the public interface, for this repository's own benchmarks.
//!
//! Not for users: nothing here is documented for them, nothing is stable, and no feature but the
//! hidden `internals` opens it. `crates/aiopool-bench` times single parts of the library (a ring, a
//! lane, a doorbell, a queue with its engine) across the crate border, as a user's program calls
//! the library.

#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]
#![allow(missing_docs, missing_debug_implementations)] // an interface for one caller

pub use crate::control::{Control, Shape};
pub use crate::queue::{Common, For, HostQueue, Inputs, Receiver, Submission};
pub use crate::ring::{Claim, LaneReader, LaneWriter, Next, claim, place};
pub use crate::shm::Region;
pub use crate::sync::spin_hint;
pub use crate::table::{
    Call, INLINE_INPUT, InputDesc, OutputDesc, Owner, Place, State, StateWord, WorkerId,
};
pub use crate::task::{Outcome, Status};
pub use crate::worker::internals::{Engine, Look, WorkerFds, now};

/// Atomic words as the protocols use them.
pub mod atomic {
    pub use crate::sync::atomic::{AtomicU64, Ordering, fence};
}

/// The system calls that a partner process needs.
pub mod sys {
    pub use crate::sys::cpus::Mask;
    pub use crate::sys::eventfd::EventFd;
    pub use crate::sys::exit::exit_now;
    pub use crate::sys::poll::{PollFd, poll};
    pub use crate::sys::process::{Side, die_with_parent, fork};
    pub use crate::sys::wait::reap_waiting;
}
