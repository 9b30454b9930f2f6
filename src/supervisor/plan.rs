//! The numbers a pool is built from, checked.

use crate::control::Shape;
use crate::launch::StartMethod;
use crate::worker::WorkerConfig;

/// Whether workers that end are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Respawn {
    /// Each is, so that the pool always has its number of workers.
    Always,
    /// None is: the pool is one process, and its tasks end with it.
    Never,
}

impl Respawn {
    /// Returns how many initializers may fail in a row before the pool fails.
    pub(super) fn max_init_failures(self) -> u32 {
        match self {
            Self::Always => 3,
            Self::Never => 1,
        }
    }
}

/// What a pool is built from; every number is within its range.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) processes: u32,
    pub(crate) queues: u32,
    pub(crate) capacity: u32,
    pub(crate) classes: u32,
    pub(crate) max_payload: usize,
    pub(crate) output_arena: usize,
    pub(crate) respawn: Respawn,
    /// Whether the program's recorder gets the pool's numbers.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    pub(crate) metrics: bool,
    /// How long a poll may last before it is an event, in nanoseconds, if that is asked for.
    pub(crate) blocked_after_ns: Option<u64>,
    /// The pool's number, if it has one already.
    pub(crate) id: Option<usize>,
    pub(crate) grace: std::time::Duration,
    /// How long a worker may take from its order until it can take tasks.
    pub(crate) start_timeout: std::time::Duration,
    /// The initializer's name, where it is a function of this program.
    pub(crate) initializer: Option<&'static str>,
    pub(crate) start: StartMethod,
    /// Where the output of workers goes, if it goes to files.
    pub(crate) output: Option<std::path::PathBuf>,
    /// Returns the context of the code that submits a task, if tasks are to have it.
    pub(crate) context_of_caller: Option<fn() -> Option<String>>,
    pub(crate) worker: WorkerConfig,
}

impl Plan {
    /// Seats on queue `queue`: seat `w` serves queue `w % queues`.
    pub(crate) fn seats_of(&self, queue: u32) -> u32 {
        (self.processes - queue).div_ceil(self.queues)
    }

    /// Returns the shape of queue `queue`'s control region: two worker slots a seat, so that a
    /// replacement can start while the worker it replaces finishes.
    pub(crate) fn shape(&self, queue: u32) -> Shape {
        Shape { capacity: self.capacity, slots: 2 * self.seats_of(queue), classes: self.classes }
    }

    /// Items that a `map` takes ahead of its results by default: enough to keep every worker busy,
    /// and never more than half the records.
    pub(crate) fn default_window(&self) -> usize {
        /// Enough for the largest batches; more only takes memory.
        const LEAST: usize = 1024;
        let busy = 2 * self.processes as usize * self.worker.child_concurrency as usize;
        busy.max(LEAST).min(self.capacity as usize * self.queues as usize / 2).max(1)
    }
}
