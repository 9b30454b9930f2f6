//! Parts of the library below its public interface, each against a floor or a rival.
//!
//! They come through `aiopool::internals`. Every contestant here runs one *block* of operations and
//! measures how long it took; `contest` pairs the blocks and takes the medians.

#![allow(missing_docs, missing_debug_implementations)] // for the rows only

mod copies;
mod cycle;
mod floors;
mod loans;
#[cfg(feature = "rivals")]
mod locked;
mod partner;
mod pinned;
mod rings;
#[cfg(feature = "rivals")]
mod threads;

pub use copies::CopiesAcross;
pub use cycle::Cycle;
pub use floors::{BareAccesses, Bells, CacheLine, fork_and_exit};
pub use loans::{Loans, register as register_loans};
#[cfg(feature = "rivals")]
pub use locked::{Idle, LockedQueue};
pub use rings::{ResultLane, RingCycle, RoundTrip, SubmitClaim};
#[cfg(feature = "rivals")]
pub use threads::Threads;
