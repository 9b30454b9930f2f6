//! What earlier looks at a pool have seen: how long a poll lasts is known from two of them.

use std::collections::HashMap;

use crate::control::Polled;

/// What is known from earlier looks, by process id.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) workers: HashMap<u32, Known>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The poll it was in, and when that was first seen.
    pub(super) polled: Polled,
    pub(super) since: u64,
    pub(super) pss: Option<u64>,
    /// When the PSS was measured.
    pub(super) measured: u64,
}
