//! Resource limits that a user can set for each worker.
#![forbid(unsafe_code)]

use std::io;

use serde::{Deserialize, Serialize};

use crate::sys::rlimit::{self, Resource};

/// Resource limits of each worker process, for [`PoolBuilder::limits`](crate::PoolBuilder::limits).
///
/// They hold for the worker alone, from before its initializer on, and never raise what the host
/// has. A worker that exceeds one dies or is refused, which costs the tasks it was running and no
/// others: they end with `WorkerLost`, naming the signal, or are retried where allowed.
///
/// ```
/// # fn main() -> aiopool::Result<()> {
/// use aiopool::{Limits, Pool};
/// let limits = Limits::new().address_space(4 << 30).cpu_seconds(600).open_files(256);
/// let pool = Pool::builder().processes(1).limits(limits).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub(crate) address_space: Option<u64>,
    pub(crate) cpu_seconds: Option<u64>,
    pub(crate) open_files: Option<u64>,
}

impl Limits {
    /// Sets no limits but those of the host.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the bytes of address space (`RLIMIT_AS`), the pool's own memory in the worker
    /// included: `input_arena`, `output_arena`, the task table, and the program itself.
    ///
    /// An allocation beyond it fails, which ends a Rust program with `SIGABRT`. It counts what is
    /// mapped, used or not; a program that maps much more than it uses needs more than it seems.
    #[must_use]
    pub fn address_space(mut self, bytes: u64) -> Self {
        self.address_space = Some(bytes);
        self
    }

    /// Seconds of processor time (`RLIMIT_CPU`) in the worker's whole life, at least 1; then
    /// `SIGXCPU`, and a second later, should that be ignored, `SIGKILL`.
    ///
    /// A worker that serves for long uses it up by honest work: choose `max_tasks_per_child` so
    /// that it is recycled before.
    #[must_use]
    pub fn cpu_seconds(mut self, seconds: u64) -> Self {
        self.cpu_seconds = Some(seconds);
        self
    }

    /// Descriptors that the worker may have open (`RLIMIT_NOFILE`), the pool's own included: two
    /// for each worker of the queue and about twenty.
    ///
    /// Beyond it a task's `open` or `socket` fails with `EMFILE`.
    #[must_use]
    pub fn open_files(mut self, descriptors: u64) -> Self {
        self.open_files = Some(descriptors);
        self
    }

    /// Sets them for this process.
    pub(super) fn apply(&self) -> io::Result<()> {
        let limits = [
            (Resource::OpenFiles, self.open_files),
            (Resource::CpuSeconds, self.cpu_seconds),
            (Resource::AddressSpace, self.address_space),
        ];
        for (resource, most) in limits {
            if let Some(most) = most {
                rlimit::lower(resource, most)?;
            }
        }
        Ok(())
    }
}
