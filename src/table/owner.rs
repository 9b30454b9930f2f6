//! Which worker process: its queue, its slot in the queue, and which life of that slot.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A worker process, distinct from every other that had or will have the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WorkerId {
    /// The queue it serves.
    pub queue: u16,
    /// Its worker slot within the queue, 0-based.
    pub slot: u16,
    /// A new number at each respawn, from 1; a pid alone can be reused.
    pub incarnation: u32,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}.{}#{}", self.queue, self.slot, self.incarnation)
    }
}
