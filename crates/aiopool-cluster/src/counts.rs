//! How the tasks of a handle ended, and what they are doing.

use std::sync::atomic::{AtomicU64, Ordering};

use aiopool::TaskError;

use crate::error::ClusterError;
use crate::keeper::Outcome;

/// Counts by the names of [`ClusterStats`](crate::ClusterStats), written by the handle's thread.
///
/// All are read and written `Relaxed`: nothing else is told by a number.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ok: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) worker_lost: AtomicU64,
    pub(crate) node_lost: AtomicU64,
    pub(crate) pool_closed: AtomicU64,
    pub(crate) other: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) running: AtomicU64,
}

impl Counts {
    /// Counts an outcome.
    pub(crate) fn came(&self, outcome: &Outcome) {
        let counter = match outcome {
            Ok(_) => &self.ok,
            Err(ClusterError::NodeLost { .. }) => &self.node_lost,
            Err(ClusterError::Task(error)) => match error {
                TaskError::Failed(_) => &self.failed,
                TaskError::Panicked(_) => &self.panicked,
                TaskError::Cancelled => &self.cancelled,
                TaskError::TimedOut { .. } => &self.timed_out,
                TaskError::WorkerLost(_) => &self.worker_lost,
                TaskError::PoolClosed { .. } => &self.pool_closed,
                _ => &self.other,
            },
            Err(_) => &self.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
