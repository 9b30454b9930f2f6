//! What every worker of a pool is told once.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::task::callback::{Callback, Exception, Runtime};

/// A function that runs in a worker outside any task: its vtable and its encoded argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// Relative address of the vtable; see `task/entry.rs`.
    pub(crate) vtable: u64,
    /// The encoded argument.
    pub(crate) argument: Vec<u8>,
}

/// A pool's worker configuration; travels encoded, the zygote does not look at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerConfig {
    /// Tasks in flight at once, at most.
    pub(crate) child_concurrency: u32,
    /// Tasks to claim before the worker is recycled; 0 for no limit.
    pub(crate) max_tasks: u64,
    /// Runs once before the first task.
    pub(crate) initializer: Option<Hook>,
    /// Runs once after the last task.
    pub(crate) exit_hook: Option<Hook>,
    /// Configures the worker's runtime before it is built.
    pub(crate) runtime_initializer: Option<Callback<Runtime>>,
    /// Told of each task's error before it becomes text.
    pub(crate) exception_handler: Option<Callback<Exception>>,
    /// How long a look for work may spin, in nanoseconds: about what a wake-up costs.
    pub(crate) spin_ns: u64,
    /// How many workers of a queue may spin at once.
    pub(crate) searchers: u32,
    /// There are more workers than processors for them: who spins gives way to who works.
    pub(crate) crowded: bool,
}
