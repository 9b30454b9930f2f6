//! The handle: the pool's verbs, over nodes.

mod defaults;
mod flat;
mod job;
mod keyed;
mod map;
mod parts;
mod progress;
mod submit;
mod task;
mod task_set;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiopool::{TaskError, TaskOptions, remote};
use futures_util::future::{Either, select};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::connection::Connection;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::keeper::{ByNode, Claim, Command, Keeper, Lost, Submission};
use crate::link::Link;
use crate::node::{MARGIN, build_of, check_lease};
use crate::protocol::LeaseTimes;
use crate::random;
use crate::runs::Runs;
use crate::streams::Role;
use crate::taken::Taken;
use crate::wire::Function;

pub use flat::Flat;
pub use job::Job;
pub use keyed::{Enumerated, Keyed};
pub use map::{Collect, Encoded, Map};
pub use parts::Parts;
pub use submit::Submit;
pub use task::Task;
pub use task_set::TaskSet;

/// A pool of nodes on other machines, with the verbs of [`aiopool::Pool`].
///
/// The handle has a thread of its own, which submits, collects and decides about attempts. Dropping
/// it [terminates](Self::terminate) the job and waits for that, at most five seconds.
///
/// ```no_run
/// async fn double(x: u64) -> u64 {
///     x * 2
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = aiopool_cluster::Cluster::connect("nats://127.0.0.1:4222").await?;
/// let doubled: Vec<u64> = cluster.map(double, 1..=3).await?;
/// assert_eq!(doubled, [2, 4, 6]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    pub(crate) shared: Arc<Shared>,
    /// What the handle was made with, for its durable jobs.
    builder: ClusterBuilder,
}

/// What the handle, its tasks and its thread have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    commands: mpsc::UnboundedSender<Command>,
    next: AtomicU64,
    /// Why there is no build, if there is none: only named functions can be submitted then.
    build: Result<String>,
    capacity: usize,
    room: Arc<Semaphore>,
    closed: AtomicBool,
    ended: watch::Receiver<bool>,
    /// Whether the job outlives the handle.
    durable: bool,
    /// Outcomes that were taken before the job was resumed: those of all tasks below.
    skip: u64,
    taken: Arc<Mutex<Taken>>,
    by_node: ByNode,
    counts: Arc<Counts>,
    lost: Lost,
    /// How long runs take, and how many items of short ones go into one message at most.
    runs: Arc<Runs>,
    group: usize,
    /// Bytes of input that go into one message together.
    together: usize,
    /// The process that made the handle, and what tells it from its forks.
    owner: u32,
    forks: u32,
}

/// Options of a cluster handle; see [`Cluster::builder`].
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    access: Connection,
    pool: String,
    version: Option<String>,
    lease: Duration,
    capacity: usize,
    group: usize,
}

/// The state of a cluster handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStats {
    /// Tasks that were submitted since the handle was made.
    pub submitted: u64,
    /// Tasks that are out now.
    pub outstanding: usize,
    /// Tasks that can be out at once.
    pub capacity: usize,
    /// Those that are out and that no node is known to have claimed.
    pub queued: u64,
    /// Those that are out and that a node has claimed.
    pub running: u64,
    /// Outcomes: values.
    pub ok: u64,
    /// Outcomes: errors that task functions returned.
    pub failed: u64,
    /// Outcomes: panics.
    pub panicked: u64,
    /// Outcomes: tasks cancelled.
    pub cancelled: u64,
    /// Outcomes: deadlines.
    pub timed_out: u64,
    /// Outcomes: workers that died.
    pub worker_lost: u64,
    /// Outcomes: nodes that died or were cut off.
    pub node_lost: u64,
    /// Outcomes: tasks that [`terminate`](Cluster::terminate) overtook.
    pub pool_closed: u64,
    /// Outcomes: everything else.
    pub other: u64,
    /// Attempts after the first.
    pub retries: u64,
}

impl ClusterBuilder {
    /// Sets the pool: 1 to 32 letters, digits, `-` and `_`, without `_BLOBS` at the end.
    #[must_use]
    pub fn pool(mut self, name: impl Into<String>) -> Self {
        self.pool = name.into();
        self
    }

    /// Has named functions run on nodes of this version, whatever their build.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets the lease of the job: 4 to 150 seconds, 30 by default. A handle that does not reach the
    /// server for that long loses its job.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how many tasks can be out at once, 1 to 1,048,576; 4,096 by default.
    #[must_use]
    pub fn capacity(mut self, tasks: usize) -> Self {
        self.capacity = tasks;
        self
    }

    /// Sets how many items of a `map` go into one message at most, 1 to 256; 64 by default, and 1
    /// has each go by itself.
    ///
    /// Only items whose runs are known to be short go together: what takes 20 ms by the longest of
    /// the late runs of their function. They are claimed by one node, and lost or tried again
    /// together where it dies. Items of durable jobs, and tasks with
    /// [`alone`](TaskOptions::alone) or [`queue_ttl`](TaskOptions::queue_ttl), go by themselves.
    #[must_use]
    pub fn items_per_message(mut self, most: usize) -> Self {
        self.group = most;
        self
    }

    /// Connects, and makes the job's key.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] and [`Error::Server`] when no server can be had,
    /// [`Error::InvalidOption`].
    pub async fn connect(self) -> Result<Cluster> {
        self.open(None).await
    }

    /// Makes a handle for a job of its own, or for the durable job of this name.
    async fn open(self, durable: Option<String>) -> Result<Cluster> {
        let (report, ready) = oneshot::channel();
        let spawn = move || self.start(durable, report);
        std::thread::Builder::new()
            .name("aiopool-cluster".to_owned())
            .spawn(spawn)
            .map_err(|error| Error::Server(format!("no thread for the handle: {error}")))?;
        ready.await.unwrap_or_else(|_| Err(Error::Server("the handle's thread ended".to_owned())))
    }

    /// [`connect`](Self::connect) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_blocking(self) -> Result<Cluster> {
        task::block(self.connect(), None).expect("without a limit there is a result")
    }

    /// The body of the handle's thread.
    fn start(self, durable: Option<String>, report: oneshot::Sender<Result<Cluster>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else {
            let text = "the system refuses the handle's thread its descriptors".to_owned();
            let _ = report.send(Err(Error::Server(text)));
            return;
        };
        runtime.block_on(async {
            let (ended, watched) = watch::channel(false);
            match self.begin(durable, watched).await {
                Ok((keeper, cluster)) => {
                    // Where nobody waits for it any more, the job ends as that of a dropped handle.
                    let unwanted = report.send(Ok(cluster)).err();
                    if let Some(Ok(cluster)) = &unwanted {
                        cluster.begin_to_end();
                    }
                    keeper.run().await;
                    let _ = ended.send(true);
                }
                Err(error) => drop(report.send(Err(error))),
            }
            let _ = ended.send(true);
        });
    }

    async fn begin(
        self,
        durable: Option<String>,
        ended: watch::Receiver<bool>,
    ) -> Result<(Keeper, Cluster)> {
        check_lease(self.lease)?;
        if !(1..=1 << 20).contains(&self.capacity) {
            return Err(Error::InvalidOption {
                name: "capacity",
                value: self.capacity.to_string(),
                allowed: "1 to 1048576".to_owned(),
            });
        }
        if !(1..=256).contains(&self.group) {
            return Err(Error::InvalidOption {
                name: "items_per_message",
                value: self.group.to_string(),
                allowed: "1 to 256".to_owned(),
            });
        }
        let build = build_of(self.version.as_deref());
        if let Err(error @ Error::InvalidOption { .. }) = build {
            return Err(error);
        }
        let name = format!("aiopool submitter {}:{}", random::host(), std::process::id());
        let link = Link::connect(&self.access, &self.pool, &name).await?;
        link.warn_of_lease(self.lease);
        link.try_rights(Role::Submitter).await?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let margin = MARGIN.as_nanos() as u64;
        let times = LeaseTimes { lease: self.lease.as_nanos() as u64, margin };
        let claim = match &durable {
            Some(name) => Claim::durable(&link, name).await?,
            None => Claim::new(),
        };
        let skip = claim.taken;
        let together = map::TOGETHER.min(link.inline());
        let keeper = Keeper::begin(link, times, claim, inbox).await?;
        let (taken, by_node, counts, runs, lost) = keeper.shared();
        let shared = Shared {
            commands,
            next: AtomicU64::new(0),
            build,
            capacity: self.capacity,
            room: Arc::new(Semaphore::new(self.capacity)),
            closed: AtomicBool::new(false),
            ended,
            durable: durable.is_some(),
            skip,
            taken,
            by_node,
            counts,
            lost,
            runs,
            group: self.group,
            together,
            owner: std::process::id(),
            forks: remote::forks(),
        };
        Ok((keeper, Cluster { shared: Arc::new(shared), builder: self }))
    }
}

impl Cluster {
    /// Connects to the pool `default` with the default options. Several servers are told apart by
    /// commas.
    ///
    /// # Errors
    ///
    /// As [`ClusterBuilder::connect`].
    pub async fn connect(server: impl Into<Connection>) -> Result<Self> {
        Self::builder(server).connect().await
    }

    /// Returns options for a handle.
    #[must_use]
    pub fn builder(server: impl Into<Connection>) -> ClusterBuilder {
        ClusterBuilder {
            access: server.into(),
            pool: "default".to_owned(),
            version: None,
            lease: Duration::from_secs(30),
            capacity: 4096,
            group: 64,
        }
    }

    /// Returns the verbs below with `options` for the tasks they submit.
    #[must_use]
    pub fn with(&self, options: TaskOptions) -> Submit<'_> {
        Submit { shared: &self.shared, options }
    }

    /// Waits until a node of this handle's build or version lives and has places. Tasks may be
    /// submitted before that; this is for a program that is to say that it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] without a build id, [`Error::JobLost`] when the job has ended.
    ///
    /// # Cancel safety
    ///
    /// Giving up the wait changes nothing.
    pub async fn ready(&self) -> Result<()> {
        let build = self.shared.build.clone()?;
        self.shared.check_process().map_err(|error| Error::JobLost(error.to_string()))?;
        let (to, there) = oneshot::channel();
        self.shared.command(Command::Ready(build, to));
        there.await.map_err(|_| self.shared.gone())
    }

    /// [`ready`](Self::ready) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn ready_blocking(&self) -> Result<()> {
        task::block(self.ready(), None).expect("without a limit there is a result")
    }

    /// Takes no more tasks; those that are out go on.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.command(Command::Close);
    }

    /// Ends every task with [`TaskError::PoolClosed`], and the job. Code that runs on a node ends
    /// there; its outcome is not taken.
    pub fn terminate(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.command(Command::Terminate);
    }

    /// Closes, and waits until every task is over, at most `limit`; then it
    /// [terminates](Self::terminate), or leaves a durable job to its next holder, as dropping the
    /// handle does. Returns whether all were over in time.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.close();
        // Whatever executor polls this: the handle's thread has the timer.
        let (to, over) = oneshot::channel();
        self.shared.command(Command::Wait(limit, to));
        let (ended, over) = (pin!(self.shared.wait_ended()), pin!(over));
        match select(ended, over).await {
            Either::Right((Ok(()), _)) => {}
            Either::Right((Err(_), ended)) => {
                ended.await;
                return true;
            }
            Either::Left(_) => return true,
        }
        self.begin_to_end();
        self.shared.wait_ended().await;
        false
    }

    /// [`drain`](Self::drain) for code that is not async.
    pub fn drain_blocking(&self, limit: Duration) -> bool {
        self.close();
        if task::block(self.shared.wait_ended(), Some(limit)).is_some() {
            return true;
        }
        self.begin_to_end();
        task::block(self.shared.wait_ended(), None);
        false
    }

    /// Waits until the job has ended, after [`close`](Self::close) or
    /// [`terminate`](Self::terminate).
    pub async fn join(&self) {
        self.shared.wait_ended().await;
    }

    /// [`join`](Self::join) for code that is not async.
    pub fn join_blocking(&self) {
        task::block(self.shared.wait_ended(), None);
    }

    /// Has the job end, or leaves it to the next holder.
    fn begin_to_end(&self) {
        if self.shared.durable {
            self.shared.closed.store(true, Ordering::Relaxed);
            self.shared.command(Command::Leave);
        } else {
            self.terminate();
        }
    }

    /// Returns what is known of the handle's tasks.
    #[must_use]
    pub fn stats(&self) -> ClusterStats {
        let Shared { next, capacity, room, counts, .. } = &*self.shared;
        let outstanding = capacity - room.available_permits().min(*capacity);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let running = count(&counts.running).min(outstanding as u64);
        ClusterStats {
            submitted: count(next),
            outstanding,
            capacity: *capacity,
            queued: outstanding as u64 - running,
            running,
            ok: count(&counts.ok),
            failed: count(&counts.failed),
            panicked: count(&counts.panicked),
            cancelled: count(&counts.cancelled),
            timed_out: count(&counts.timed_out),
            worker_lost: count(&counts.worker_lost),
            node_lost: count(&counts.node_lost),
            pool_closed: count(&counts.pool_closed),
            other: count(&counts.other),
            retries: count(&counts.retries),
        }
    }

    /// Returns how many outcomes came of each node; of none in a forked process.
    #[must_use]
    pub fn outcomes_by_node(&self) -> BTreeMap<String, u64> {
        if self.shared.check_process().is_err() {
            return BTreeMap::new();
        }
        self.shared.by_node.lock().map(|by_node| by_node.clone()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shared.leave_behind();
        self.begin_to_end();
        task::block(self.shared.wait_ended(), Some(Duration::from_secs(5)));
    }
}

impl Shared {
    /// How many items of a function go into one message.
    fn fit(&self, function: &Function, options: &TaskOptions) -> usize {
        let limits = remote::limits(options);
        // A forked process may find the keeper's lock taken for ever; nothing of it is submitted.
        if self.check_process().is_err() {
            return 1;
        }
        if self.durable || limits.alone || limits.queue_ttl.is_some() {
            return 1;
        }
        self.runs.fit(function, self.group)
    }

    /// Submits tasks of one function, in one message where there are several.
    fn submit(&self, mut tasks: Vec<Submission>) {
        self.command(match tasks.len() {
            0 => return,
            1 => Command::Submit(Box::new(tasks.remove(0))),
            _ => Command::Group(tasks),
        });
    }

    /// Takes note that the caller has the outcome of a task of a durable job.
    fn take(&self, n: u64) {
        // As in `fit`: the outcome is the parent's to take.
        if self.check_process().is_err() {
            return;
        }
        if let Ok(mut taken) = self.taken.lock() {
            taken.add(n);
        }
    }

    fn command(&self, command: Command) {
        // A copy of the channel has locks that nobody may ever open.
        if self.check_process().is_err() {
            return;
        }
        // The thread has ended: every outcome was delivered.
        let _ = self.commands.send(command);
    }

    /// Says that this process was forked from the one that made the handle, whose thread it has not.
    fn check_process(&self) -> std::result::Result<(), TaskError> {
        if remote::forks() == self.forks {
            return Ok(());
        }
        let forked = aiopool::Error::Forked { owner: self.owner, here: std::process::id() };
        Err(TaskError::NotSubmitted(Arc::new(forked)))
    }

    /// Returns why nothing comes of what the thread was asked for, which has ended.
    fn gone(&self) -> Error {
        let why = self.lost.get().map_or("its handle has ended", String::as_str);
        Error::JobLost(why.to_owned())
    }

    /// Has a forked process, if this is one, never drop its copy: what is in it may be locked by a
    /// thread that only the first process has.
    fn leave_behind(self: &Arc<Self>) {
        if self.check_process().is_err() {
            std::mem::forget(Arc::clone(self));
        }
    }

    async fn wait_ended(&self) {
        if self.check_process().is_err() {
            return;
        }
        let mut ended = self.ended.clone();
        // An error: the thread has gone, which is an end, too.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}
