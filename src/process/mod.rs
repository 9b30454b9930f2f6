//! Floor 7: one async function in a process of its own.
//!
//! [`Process`] only runs it, [`Worker`] gives its value. Both are a pool of one process that is
//! not replaced, so all that holds for a pool's workers holds here.

#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]

mod pool_of_one;
mod run;
mod worker;

pub(crate) use pool_of_one::{exit_code, next_name, of_one};

pub use run::Process;
pub use worker::Worker;
