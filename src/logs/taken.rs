//! Records that the host's program takes by itself.

use std::fmt;
use std::sync::Arc;

use tracing::Level;

use super::record::{Record, tracing_level};

/// A record that a worker made, as [`Logs::hand_to`](super::Logs::hand_to) gives it. All texts are
/// the worker's.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LogRecord<'r> {
    /// How much it matters.
    pub level: Level,
    /// What it is about: for Rust the module, for Python the logger's name.
    pub target: &'r str,
    /// What it says.
    pub text: &'r str,
    /// The spans around it, outermost first.
    pub spans: &'r str,
    /// The worker's seat in its pool.
    pub worker: u32,
    /// The worker's process id.
    pub pid: u32,
    /// The low 31 bits of the task's number, where a task made the record.
    pub task: Option<u32>,
    /// The name of the task's function, where it is known.
    pub function: Option<&'r str>,
}

/// What takes the records.
#[derive(Clone)]
pub(crate) struct Taker(pub(super) Arc<dyn Fn(&LogRecord<'_>) + Send + Sync>);

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taker")
    }
}

impl Taker {
    pub(super) fn take(&self, record: &Record<'_>) {
        let &Record { target, text, spans, worker, pid, task, function, .. } = record;
        let level = tracing_level(record.level());
        (self.0)(&LogRecord { level, target, text, spans, worker, pid, task, function });
    }
}
