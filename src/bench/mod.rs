//! Floor 8: what `aiopool bench` measures below the public interface.
//!
//! Not for users: the feature `bench` exists so that the command line, which sees the public
//! interface only, can time single parts of the library against floors and rivals. Every
//! contestant here runs one *block* of operations and says how long it took; pairing blocks,
//! medians and tables are the command's.

#![allow(missing_docs, missing_debug_implementations)] // an interface for one caller

mod copies;
mod cycle;
mod floors;
mod loans;
#[cfg(feature = "rivals")]
mod locked;
mod partner;
mod pinned;
mod rings;
mod threads;

pub use copies::CopiesAcross;
pub use cycle::Cycle;
pub use floors::{BareAccesses, Bells, CacheLine, fork_and_exit};
pub use loans::{Loans, register as register_loans};
#[cfg(feature = "rivals")]
pub use locked::{Idle, LockedQueue};
pub use pinned::{Pinned, cpus};
pub use rings::{ResultLane, RingCycle, RoundTrip, SubmitClaim};
pub use threads::Threads;
