//! What a pool's workers log, as its builder sees it.

use crate::logs::Logs;

use super::PoolBuilder;

impl PoolBuilder {
    /// Sets which records of its workers the pool brings to the host. Default:
    /// [`logs()`](crate::logs) as it is, so those that the host's subscriber or logger takes.
    pub fn logs(mut self, logs: Logs) -> Self {
        self.logs = logs;
        self
    }
}
