//! A node: an agent that pulls tasks into the free places of its local pool.

mod agent;
mod group;
mod hands;
mod janitor;
mod lock;
mod program;
mod pulls;
mod work;

use std::sync::Arc;
use std::time::Duration;

use aiopool::remote;
use aiopool::{PoolBuilder, StartMethod};

use crate::asks::Asks;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::link::Link;
use crate::protocol::LeaseTimes;
use crate::random;
use crate::streams::Role;
use crate::wire;

pub use program::node_main;

/// Options of a node; see [`Node::builder`].
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) access: Connection,
    pub(crate) pool: String,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) lease: Duration,
    pub(crate) processes: Option<usize>,
    pub(crate) child_concurrency: Option<usize>,
    pub(crate) start: Option<StartMethod>,
    options: PoolOptions,
}

/// Makes the options that the pool of each life begins with.
#[derive(Clone)]
struct PoolOptions(Arc<dyn Fn() -> PoolBuilder + Send + Sync>);

impl std::fmt::Debug for PoolOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolOptions").finish_non_exhaustive()
    }
}

/// What a node did, when it has ended in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeReport {
    /// Tasks whose code ended here with a value.
    pub done: u64,
    /// Tasks whose code ended here without one.
    pub failed: u64,
    /// Of these, tasks whose worker died.
    pub lost: u64,
}

/// How long before the end of its lease a node's code is killed.
pub(crate) const MARGIN: Duration = Duration::from_secs(2);

impl Node {
    /// Returns options for a node of the pool `default` on a server.
    #[must_use]
    pub fn builder(server: impl Into<Connection>) -> Self {
        Self {
            access: server.into(),
            pool: "default".to_owned(),
            name: None,
            version: None,
            lease: Duration::from_secs(30),
            processes: None,
            child_concurrency: None,
            start: None,
            options: PoolOptions(Arc::new(aiopool::Pool::builder)),
        }
    }

    /// Sets the pool that the node serves: 1 to 32 letters, digits, `-` and `_`, without `_BLOBS` at the
    /// end.
    #[must_use]
    pub fn pool(mut self, name: impl Into<String>) -> Self {
        self.pool = name.into();
        self
    }

    /// Sets the node's name; by default one that no other node has. Two live nodes cannot have one
    /// name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the lease: 4 to 150 seconds, 30 by default. A node that cannot renew it for that long
    /// kills what it runs two seconds earlier. With three servers an election takes up to 10
    /// seconds, so that the lease is to be at least 20.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the number of worker processes, as
    /// [`PoolBuilder::processes`](aiopool::PoolBuilder::processes).
    #[must_use]
    pub fn processes(mut self, processes: usize) -> Self {
        self.processes = Some(processes);
        self
    }

    /// Sets how many tasks a worker has in flight, as
    /// [`PoolBuilder::child_concurrency`](aiopool::PoolBuilder::child_concurrency).
    #[must_use]
    pub fn child_concurrency(mut self, tasks: usize) -> Self {
        self.child_concurrency = Some(tasks);
        self
    }

    /// Sets the version whose named functions the node serves, in place of this build's.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets how workers start, as
    /// [`PoolBuilder::start_method`](aiopool::PoolBuilder::start_method).
    #[must_use]
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.start = Some(method);
        self
    }

    /// Sets what makes the other options of the local pool, such as what its workers are given at
    /// their start. It is called for each life of the node, in the thread that runs the node; what
    /// was said to this type's own methods is set on the result.
    ///
    /// ```no_run
    /// use aiopool_cluster::Node;
    ///
    /// let options = || aiopool::Pool::builder().max_tasks_per_child(1000);
    /// Node::builder("nats://127.0.0.1:4222").pool_options(options).run()?;
    /// # Ok::<(), aiopool_cluster::Error>(())
    /// ```
    #[must_use]
    pub fn pool_options(mut self, make: impl Fn() -> PoolBuilder + Send + Sync + 'static) -> Self {
        self.options = PoolOptions(Arc::new(make));
        self
    }

    /// Runs the node on this thread until the process is sent `SIGTERM`, `SIGINT` or `SIGHUP`; then
    /// it pulls no more, finishes what it runs and leaves. A second one ends the process at once,
    /// with status 1. These signals stay handled when the node has ended, also by an error: a program
    /// that goes on, to try again after a pause, is no longer ended by them.
    ///
    /// # Errors
    ///
    /// As [`run_until`](Self::run_until).
    pub fn run(self) -> Result<NodeReport> {
        aiopool::block_on(self.run_until(async {
            interrupt::first().await;
        }))
    }

    /// Runs the node until `stop` is ready; then it pulls no more, finishes what it runs and
    /// leaves. To be called in a runtime of tokio's, as [`aiopool::block_on`] is.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] and [`Error::Server`] when no server can be had, [`Error::NameTaken`]
    /// when a node of this name lives, [`Error::Pool`] when the local pool cannot be built or
    /// fails, [`Error::InvalidOption`].
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<NodeReport> {
        check_lease(self.lease)?;
        let name = match &self.name {
            Some(name) if !wire::is_token(name) => {
                return Err(Error::InvalidOption {
                    name: "name",
                    value: name.clone(),
                    allowed: wire::TOKEN.to_owned(),
                });
            }
            Some(name) => name.clone(),
            None => format!("{}-{:08x}", std::process::id(), random::bits() as u32),
        };
        let build = build_of(self.version.as_deref())?;
        let link = Link::connect(&self.access, &self.pool, &format!("aiopool node {name}")).await?;
        link.warn_of_lease(self.lease);
        let hints = link.client.subscribe(link.names.hints(&name)).await;
        let hints = hints.map_err(|error| Error::Server(format!("subscribe: {error}")))?;
        link.try_rights(Role::Node).await?;
        let (asks, answers) = Asks::listen(&link).await?;
        agent::Agent::new(self, name, build, link, asks).serve(answers, hints, stop).await
    }

    fn local(&self) -> PoolBuilder {
        let mut builder = (self.options.0)();
        if let Some(method) = &self.start {
            builder = builder.start_method(method.clone());
        }
        if let Some(processes) = self.processes {
            builder = builder.processes(processes);
        }
        if let Some(tasks) = self.child_concurrency {
            builder = builder.child_concurrency(tasks);
        }
        builder
    }

    fn times(&self) -> LeaseTimes {
        LeaseTimes { lease: self.lease.as_nanos() as u64, margin: MARGIN.as_nanos() as u64 }
    }
}

/// Checks the lease of a node or a job.
pub(crate) fn check_lease(lease: Duration) -> Result<()> {
    let is_allowed = u64::try_from(lease.as_nanos()).is_ok_and(wire::is_lease);
    let error = || Error::InvalidOption {
        name: "lease",
        value: format!("{lease:?}"),
        allowed: "4 to 150 seconds".to_owned(),
    };
    is_allowed.then_some(()).ok_or_else(error)
}

/// The token of a build: a user's version, or the first digits of the build id.
pub(crate) fn build_of(version: Option<&str>) -> Result<String> {
    match version {
        Some(version) if wire::is_token(version) => Ok(format!("v-{version}")),
        Some(version) => Err(Error::InvalidOption {
            name: "version",
            value: version.to_owned(),
            allowed: wire::TOKEN.to_owned(),
        }),
        None => {
            let build = remote::build().map_err(|error| Error::Pool(error.to_string()))?;
            Ok(build.chars().take(16).collect())
        }
    }
}
