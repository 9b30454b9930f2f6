//! What every worker of a pool gets once, at its start.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::control::{LAYOUT_VERSION, Shape};
use crate::logs::ForWorkers;
use crate::task::address::ImageAddress;
use crate::task::callback::{AdoptContext, ConfigureRuntime, HandleException};
use crate::task::entry::Vtable;

/// A function that runs in a worker outside any task: its vtable and its encoded argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// The vtable; none if the argument is for a worker that is another program.
    pub(crate) vtable: Option<ImageAddress<Vtable>>,
    /// The encoded argument.
    pub(crate) argument: Vec<u8>,
}

/// A pool's worker configuration; travels encoded, the zygote does not look at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerConfig {
    /// The layout of control regions and arenas that the host knows; the first, so that a worker
    /// of another build sees it whatever the rest is there.
    pub(crate) layout: u64,
    /// Records of a queue.
    pub(crate) capacity: u32,
    /// Priority classes.
    pub(crate) classes: u32,
    /// Tasks in flight at once, at most.
    pub(crate) child_concurrency: u32,
    /// Tasks to claim before the worker is recycled; 0 for no limit.
    pub(crate) max_tasks: u64,
    /// Runs once before the first task.
    pub(crate) initializer: Option<Hook>,
    /// Runs once after the last task.
    pub(crate) exit_hook: Option<Hook>,
    /// Configures the worker's runtime before it is built.
    pub(crate) runtime_initializer: Option<ImageAddress<ConfigureRuntime>>,
    /// Called with each task's error before it becomes text.
    pub(crate) exception_handler: Option<ImageAddress<HandleException>>,
    /// A worker that ends is replaced.
    pub(crate) replaced: bool,
    /// What to send of what is logged, if the host takes it.
    pub(crate) logs: Option<ForWorkers>,
    /// The directory for the files of what tasks print, if each has files of its own.
    pub(crate) printed: Option<PathBuf>,
    /// How long a look for work may spin, in nanoseconds: about what a wake-up costs.
    pub(crate) spin_ns: u64,
    /// How many workers of a queue may spin at once.
    pub(crate) searchers: u32,
    /// There are more workers than processors for them: a spinning worker yields to one that works.
    pub(crate) crowded: bool,
    /// Gives the context of a task's caller to the task's span.
    pub(crate) adopt_context: Option<ImageAddress<AdoptContext>>,
}

impl WorkerConfig {
    /// Reads what the host wrote.
    ///
    /// # Errors
    ///
    /// The text of what is wrong with it: that it is another build's, above all.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let not_ours = |error| format!("the worker's configuration: {error}");
        let (layout, _) = postcard::take_from_bytes::<u64>(bytes).map_err(not_ours)?;
        if layout != LAYOUT_VERSION {
            return Err(format!(
                "the pool's shared memory has layout {layout}, this worker's build knows \
                 {LAYOUT_VERSION}: use one build"
            ));
        }
        postcard::from_bytes(bytes).map_err(not_ours)
    }

    /// Returns the configuration of a pool without options.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self {
            layout: LAYOUT_VERSION,
            capacity: 64,
            classes: 1,
            child_concurrency: 1,
            max_tasks: 0,
            initializer: None,
            exit_hook: None,
            runtime_initializer: None,
            exception_handler: None,
            spin_ns: 0,
            searchers: 1,
            crowded: false,
            replaced: true,
            logs: None,
            printed: None,
            adopt_context: None,
        }
    }

    /// Returns the shape of the control region of a queue with `slots` worker slots.
    pub(crate) fn shape(&self, slots: usize) -> Shape {
        Shape { capacity: self.capacity, slots: slots as u32, classes: self.classes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_layout_is_refused_by_its_number_whatever_comes_after() {
        let bytes = postcard::to_stdvec(&(LAYOUT_VERSION + 1, "something else")).unwrap();
        let refused = WorkerConfig::decode(&bytes).unwrap_err();
        assert!(refused.contains(&format!("layout {}", LAYOUT_VERSION + 1)), "{refused}");
        let bytes = postcard::to_stdvec(&(LAYOUT_VERSION, u64::MAX)).unwrap();
        let refused = WorkerConfig::decode(&bytes).unwrap_err();
        assert!(refused.contains("configuration"), "{refused}");
    }
}
