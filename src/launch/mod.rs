//! Floor 5: how worker processes come to be and how they end.
//!
//! A pool's [`Launcher`] is its line to the zygote, the one process per host from which workers
//! are forked. [`init`] forks the zygote from the host; without it the first [`Launcher::open`]
//! executes it. `README.md` beside this file has the roles, the messages, the contract of a
//! worker's start and end, and the numbered crash points.

#![cfg(not(aiopool_loom))]

mod after_fork;
mod attached;
mod confinement;
mod exec;
mod home;
mod launcher;
mod limits;
mod line;
mod recipe;
#[cfg_attr(not(feature = "sandbox"), path = "no_sandbox.rs")]
mod sandbox;
mod silence;
mod snapshot;
mod spec;
mod surroundings;
#[cfg(test)]
mod tests;
mod wire;
mod zygote;

pub use after_fork::after_fork;
pub(crate) use confinement::Confinement;
pub(crate) use home::has_snapshot;
pub use home::init;
#[cfg(feature = "capi")]
pub(crate) use home::{end, init_again};
pub(crate) use launcher::{Launcher, ZygoteReport};
pub use limits::Limits;
pub use recipe::needs_library_of;
#[cfg_attr(not(feature = "sandbox"), allow(unreachable_pub))]
pub use sandbox::Sandbox;
pub(crate) use silence::{SECOND, Silence};
pub use spec::StartMethod;
pub(crate) use spec::{ForkOrder, PoolFds, PoolSpec, fds_needed};
pub(crate) use surroundings::{Surroundings, errors_of, last_words};
pub use zygote::Template;
pub(crate) use zygote::attach;
