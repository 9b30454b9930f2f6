//! Classes of urgency, and a queue where a task of its class comes up soonest.

use super::least_loaded::least;
use super::{Load, NewTask, Scheduler};

/// Gives each task to the queue where the least is before it: tasks that run, and tasks that wait
/// in its own class or a more urgent one, for each worker alive.
///
/// It brings the pool its priority classes; a task's is
/// [`TaskOptions::priority`](crate::TaskOptions::priority), 0 the most urgent. Workers take the
/// most urgent task first, and now and then one of a lower class that was passed over often, so
/// that none is starved.
#[derive(Clone, Debug)]
pub struct Priority {
    classes: usize,
    queues: usize,
}

impl Priority {
    /// Creates a scheduler with `classes` classes, 1 to 4; another number is refused when the pool
    /// is built.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { classes, queues: 0 }
    }
}

impl Scheduler for Priority {
    fn register_queue(&mut self, _: usize) {
        self.queues += 1;
    }

    fn register_process(&mut self, _: usize) {}

    fn minds_outcomes(&self) -> bool {
        false
    }

    fn schedule_task(&self, task: &NewTask<'_>, load: &dyn Load) -> usize {
        least(self.queues, task.task, |queue| {
            let before = load.in_flight(queue) + load.depth_up_to(queue, task.priority);
            (before, load.processes(queue))
        })
    }

    fn classes(&self) -> usize {
        self.classes
    }
}
