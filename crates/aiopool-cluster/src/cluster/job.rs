//! A durable job: it outlives the process that submits it.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use super::Cluster;
use super::task::block;
use crate::error::Result;
use crate::keeper::Command;
use crate::observe::check_job;

/// A job that outlives its submitter, with the verbs of a [`Cluster`]; see [`Cluster::job`].
///
/// Its tasks are numbered in the order in which they are submitted; what is refused at once has no
/// number. A process that resumes the job submits the same functions and items in the same order:
/// tasks that are there are not sent again, and a task runs once for each attempt, whichever
/// process submitted it.
///
/// `map_parts` is refused: the order in which it submits parts differs from run to run.
///
/// A stream that `map` and its like return takes note of each outcome when it is asked for the
/// next: those are not given again when the job is resumed, and [`taken`](Self::taken) counts
/// them. The list that an awaited `map` returns, and the value of a single task, are noted by
/// [`finish`](Self::finish) alone: after a crash they are given again, without running again. What
/// was noted in the last seconds before a crash may be given again, too.
///
/// Dropping the handle leaves the job: its tasks run on, and the next process can take it at once;
/// so it is after a [`drain`](Cluster::drain), in time or not. [`terminate`](Cluster::terminate)
/// and [`finish`](Self::finish) end it.
/// Dropping a task's handle does not call it off.
#[derive(Debug)]
pub struct Job {
    cluster: Cluster,
}

impl Cluster {
    /// Begins the durable job `name`, or resumes it: 1 to 30 letters, digits, `-` and `_`.
    ///
    /// Waits for up to a lease and a second where a process held it that was killed.
    ///
    /// ```no_run
    /// # async fn fetch(page: u64) -> String { page.to_string() }
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = aiopool_cluster::Cluster::connect("nats://127.0.0.1:4222").await?;
    /// let job = cluster.job("nightly").await?;
    /// let mut pages = job.map(fetch, 0..100_000);
    /// // From the first page whose text was not taken before.
    /// while let Some(page) = pages.next().await {
    ///     println!("{}", page?);
    /// }
    /// job.finish().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`JobHeld`](crate::Error::JobHeld) while another process holds it,
    /// [`InvalidOption`](crate::Error::InvalidOption) for a name that none can have, and as
    /// [`ClusterBuilder::connect`](super::ClusterBuilder::connect).
    pub async fn job(&self, name: &str) -> Result<Job> {
        check_job(name)?;
        let cluster = self.builder.clone().open(Some(name.to_owned())).await?;
        Ok(Job { cluster })
    }

    /// [`job`](Self::job) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`job`](Self::job).
    pub fn job_blocking(&self, name: &str) -> Result<Job> {
        block(self.job(name), None).expect("without a limit there is a result")
    }
}

impl Job {
    /// Returns how many outcomes were taken before the job was resumed: those of the first tasks.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.shared.skip
    }

    /// Takes note that the caller has the outcome of the task `n` of the job, by
    /// [`Task::id`](super::Task::id), as streams do by themselves: with all before it, it is not
    /// given again when the job is resumed.
    pub fn note_taken(&self, n: u64) {
        self.shared.take(n);
    }

    /// Waits until every task is over, and ends the job: its outcomes are gone.
    pub async fn finish(self) {
        self.finish_when_over();
        self.shared.wait_ended().await;
    }

    /// [`finish`](Self::finish) for code that is not async.
    pub fn finish_blocking(self) {
        self.finish_when_over();
        block(self.shared.wait_ended(), None);
    }

    /// Takes no more tasks, and has the job end once every task is over; [`join`](Cluster::join)
    /// waits for that.
    pub fn finish_when_over(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.command(Command::Finish);
    }
}

impl Deref for Job {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}
