//! The worker's end for programs that have a way of logging of their own.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tracing::Level;

use super::ForWorkers;
use super::forward::ToHost;
use super::record::level_of;
use super::spans::Around;

/// Sends log records to the host of this worker; see
/// [`AttachedWorker::log_sender`](crate::AttachedWorker::log_sender).
#[derive(Clone)]
pub struct LogSender(Arc<ToHost>);

impl fmt::Debug for LogSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSender").field("filter", &self.0.filter).finish_non_exhaustive()
    }
}

impl LogSender {
    /// Makes the end of the worker with this seat; `None` for a filter that cannot be read.
    pub(crate) fn new(wanted: &ForWorkers, socket: OwnedFd, seat: u32) -> Option<Self> {
        Some(Self(Arc::new(ToHost::new(wanted, socket, seat)?)))
    }

    /// Sends a record, if the pool's filter takes it: `target` is what it is about, `around` the
    /// spans that it is within, `task` what
    /// [`host_number`](crate::AttachedWorker::host_number) gives for the task that made it.
    ///
    /// Never waits: a record for which there is no room is dropped, and the host learns how many
    /// were.
    pub fn send(&self, level: Level, target: &str, text: &str, around: &str, task: Option<u32>) {
        let level = level_of(&level);
        let metadata = log::Metadata::builder().level(level).target(target).build();
        if self.0.filter.enabled(&metadata) {
            let task = task.map(|task| (task, String::new()));
            self.0.send(level, target, text, &Around { task, spans: around.to_owned() });
        }
    }
}
