//! The handle: the pool's verbs, over nodes.

mod defaults;
mod flat;
mod job;
mod keyed;
mod map;
mod submit;
mod task;
mod task_set;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiopool::TaskOptions;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::keeper::{ByNode, Claim, Command, Keeper};
use crate::link::Link;
use crate::node::{MARGIN, build_of};
use crate::protocol::LeaseTimes;
use crate::random;
use crate::taken::Taken;

pub use flat::Flat;
pub use job::Job;
pub use keyed::{Enumerated, Keyed};
pub use map::{Collect, Encoded, Map};
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
}

/// Options of a cluster handle; see [`Cluster::builder`].
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    access: Connection,
    pool: String,
    version: Option<String>,
    lease: Duration,
    capacity: usize,
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
}

impl ClusterBuilder {
    /// Sets the pool: 1 to 32 letters, digits, `-` and `_`.
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
                    if report.send(Ok(cluster)).is_ok() {
                        keeper.run().await;
                    }
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
        if !(4..=150).contains(&self.lease.as_secs()) {
            return Err(Error::InvalidOption {
                name: "lease",
                value: format!("{:?}", self.lease),
                allowed: "4 to 150 seconds".to_owned(),
            });
        }
        if !(1..=1 << 20).contains(&self.capacity) {
            return Err(Error::InvalidOption {
                name: "capacity",
                value: self.capacity.to_string(),
                allowed: "1 to 1048576".to_owned(),
            });
        }
        let build = build_of(self.version.as_deref());
        if let Err(error @ Error::InvalidOption { .. }) = build {
            return Err(error);
        }
        let name = format!("aiopool submitter {}:{}", random::host(), std::process::id());
        let link = Link::connect(&self.access, &self.pool, &name).await?;
        link.try_rights(&["q", "w", "b"]).await?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let margin = MARGIN.as_nanos() as u64;
        let times = LeaseTimes { lease: self.lease.as_nanos() as u64, margin };
        let claim = match &durable {
            Some(name) => Claim::durable(&link, name).await?,
            None => Claim::new(),
        };
        let skip = claim.taken;
        let keeper = Keeper::begin(link, times, claim, inbox).await?;
        let (taken, by_node) = keeper.shared();
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
        let (to, there) = oneshot::channel();
        self.shared.command(Command::Ready(build, to));
        there.await.map_err(|_| Error::JobLost("its handle has ended".to_owned()))
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

    /// Calls every task off and ends the job. Code that runs on a node ends there; its outcome
    /// is not taken.
    pub fn terminate(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.command(Command::Terminate);
    }

    /// Closes, and waits until every task is over, at most `limit`; what is left then is called
    /// off. Returns whether all were over in time.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.close();
        if tokio::time::timeout(limit, self.shared.wait_ended()).await.is_ok() {
            return true;
        }
        self.terminate();
        self.shared.wait_ended().await;
        false
    }

    /// [`drain`](Self::drain) for code that is not async.
    pub fn drain_blocking(&self, limit: Duration) -> bool {
        self.close();
        if task::block(self.shared.wait_ended(), Some(limit)).is_some() {
            return true;
        }
        self.terminate();
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

    /// Returns what is known of the handle's tasks.
    #[must_use]
    pub fn stats(&self) -> ClusterStats {
        let Shared { next, capacity, room, .. } = &*self.shared;
        ClusterStats {
            submitted: next.load(Ordering::Relaxed),
            outstanding: capacity - room.available_permits().min(*capacity),
            capacity: *capacity,
        }
    }

    /// Returns how many outcomes came of each node.
    #[must_use]
    pub fn outcomes_by_node(&self) -> BTreeMap<String, u64> {
        self.shared.by_node.lock().map(|by_node| by_node.clone()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.shared.durable {
            self.shared.closed.store(true, Ordering::Relaxed);
            self.shared.command(Command::Leave);
        } else {
            self.terminate();
        }
        task::block(self.shared.wait_ended(), Some(Duration::from_secs(5)));
    }
}

impl Shared {
    /// Takes note that the caller has the outcome of a task of a durable job.
    fn take(&self, n: u64) {
        if let Ok(mut taken) = self.taken.lock() {
            taken.add(n);
        }
    }

    fn command(&self, command: Command) {
        // The thread has ended: every outcome was delivered.
        let _ = self.commands.send(command);
    }

    async fn wait_ended(&self) {
        let mut ended = self.ended.clone();
        // An error: the thread has gone, which is an end, too.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}
