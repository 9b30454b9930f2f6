//! What a worker says of the task that it runs, while it runs: which it is, how far it is, and what
//! it prints.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use super::attached::AttachedWorker;
use super::claimed::Claimed;
use super::engine::Engine;
use super::printed::Printed;

impl Engine {
    /// Has what each task prints go to files of its own in `directory`, if there is one.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(super) fn print_apart(&mut self, directory: Option<PathBuf>) -> io::Result<()> {
        self.printed = directory.map(Printed::into).transpose()?;
        Ok(())
    }

    #[cold]
    pub(super) fn begin_printed(&mut self, task: &Claimed) {
        let call = self.call(task);
        if let Some(printed) = &mut self.printed {
            printed.begin(call.task(), call.attempts == 0);
        }
    }

    /// Says that the future of record `index` is polled, or dropped, from now on: one store, by
    /// which the host tells the task that holds or kills this worker from its neighbours.
    #[inline]
    pub(crate) fn polls(&mut self, index: u32) {
        self.polled = self.polled.next(index);
        self.control.report(self.slot).set_polled(self.polled);
    }

    /// Says that a loop which is not ours begins the task of record `index`, or, with `None`, that
    /// it has come back.
    #[inline]
    pub(super) fn begins(&mut self, index: Option<u32>) {
        self.polled = index.map_or(self.polled.none(), |index| self.polled.next(index));
        self.control.report(self.slot).set_begun(self.polled);
    }

    /// Says that other code runs than a task's own: its subtasks, perhaps, or none.
    pub(crate) fn polls_none(&mut self) {
        self.control.report(self.slot).set_polled(self.polled.none());
    }

    /// Says how far a task is that was started and has no output.
    pub(crate) fn set_progress(&self, task: &Claimed, progress: u64) {
        self.record(task).set_progress(task.word.generation(), progress);
    }
}

impl AttachedWorker {
    /// Says that the task which was given last is begun, and that what the loop does from now on is
    /// not its doing. The next [`next_event`](Self::next_event) says so, too; for
    /// [`blocked_after`](crate::PoolBuilder::blocked_after) and `aiopool top`.
    pub fn begun(&mut self) {
        self.engine.begins(None);
    }

    /// Returns whether `task` was cancelled, ran out of time, or is over: what it ends with is
    /// dropped. Costs a load; for functions that compute, as
    /// [`is_cancelled`](crate::is_cancelled) is for a pool's own workers.
    #[must_use]
    pub fn is_cancelled(&self, task: u64) -> bool {
        let unfinished = self.unfinished(task);
        unfinished.map_or(true, |(claimed, _)| self.engine.is_cancelled(&claimed).is_some())
    }

    /// Returns the number of this attempt of `task`, from 1, as
    /// [`TaskContext::attempt`](crate::TaskContext::attempt) does; `None` when there is no such
    /// task, or it is over.
    #[must_use]
    pub fn attempt(&self, task: u64) -> Option<u32> {
        let (claimed, _) = self.unfinished(task).ok()?;
        Some(u32::from(self.engine.call(&claimed).attempts) + 1)
    }
}
