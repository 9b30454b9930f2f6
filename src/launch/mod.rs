//! Floor 5: how worker processes come to be and how they end.
#![allow(dead_code, unused_imports)] // the supervisor is being written

mod launcher;
mod spec;

pub(crate) use launcher::{Launcher, Report};
pub use spec::StartMethod;
pub(crate) use spec::{ForkOrder, Limits, PoolFds, PoolSpec, fds_needed};
