//! Functions that are new to a pool, or under suspicion, run alone.
#![forbid(unsafe_code)]

use super::PoolBuilder;

impl PoolBuilder {
    /// Has the tasks of a function run alone in their workers until `tasks` of them have ended
    /// there; 0, the default, for none of this. A death while one of them may have been the cause
    /// begins the count anew.
    ///
    /// A worker keeps many tasks in flight, and a crash takes all of them down: each of those that
    /// may not run again ([`retries`](crate::TaskOptions::retries) 0) is lost with the one that
    /// crashed. What each choice costs, where one input in a hundred crashes and a worker has 16
    /// tasks in flight:
    ///
    /// | | lost beside each crash | cost |
    /// |---|---|---|
    /// | nothing | up to 15 | none |
    /// | `retries(1)` | none, they run again | the work of up to 15 tasks |
    /// | `probation(n)` | up to 15, none within `n` tasks | one task a worker, for `n` tasks |
    /// | [`TaskOptions::alone`](crate::TaskOptions::alone) | none | one task a worker |
    /// | `child_concurrency(1)` | none | one task a worker, of every function |
    #[must_use]
    pub fn probation(mut self, tasks: u32) -> Self {
        self.probation = tasks;
        self
    }
}
