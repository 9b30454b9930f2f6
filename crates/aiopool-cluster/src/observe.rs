//! What is there: nodes, queues, jobs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::keeper::Claim;
use crate::link::{self, JOBS, Link, NODES, Swap};
use crate::protocol::Key;
use crate::wire::{self, JobKey, NodeKey, Tail};

/// A node, as its key says.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Whether its key says that it lives; a node that was killed says so until its lease is over.
    pub alive: bool,
    /// Whether it takes no more tasks.
    pub draining: bool,
    /// Whether its workers die one after the other: it takes no more than a task now and then, to see
    /// whether that is over.
    pub broken: bool,
    /// Its machine.
    pub host: String,
    /// Its agent's process.
    pub pid: u32,
    /// The build or version that it runs.
    pub build: String,
    /// Worker processes.
    pub processes: u32,
    /// Tasks that fit in at once.
    pub places: u32,
    /// Tasks that it had at its last renewal.
    pub taken: u32,
    /// Tasks that ended there with a value.
    pub done: u64,
    /// Tasks that ended there without one.
    pub failed: u64,
    /// Of these, tasks whose worker died.
    pub lost: u64,
    /// Seconds since the node wrote its key.
    pub heartbeat_seconds: u64,
    /// Seconds since the server last answered the node's requests for tasks.
    pub pull_seconds: u64,
    /// The revision of its key; it grows with each renewal.
    pub revision: u64,
}

/// A job, as its key says.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JobInfo {
    /// A durable job's name; for any other its number, in hexadecimal digits.
    pub job: String,
    /// Whose it is, or was: host and process.
    pub holder: String,
    /// Whether its key says that it is not over.
    pub alive: bool,
    /// Whether it outlives its holder.
    pub durable: bool,
    /// Whether its key says that a process holds it; a killed one does until its lease is over.
    pub held: bool,
    /// In a durable job, outcomes that were taken.
    pub taken: u64,
    /// Seconds without a heartbeat after which its holder has lost it.
    pub lease_seconds: u64,
    /// Seconds since its key was written.
    pub heartbeat_seconds: u64,
    /// Tasks of it in the stream: queued, claimed, or over and not purged.
    pub tasks: u64,
    /// Those of them that no node has claimed.
    pub queued: u64,
}

/// What waits for the nodes of one build.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BuildInfo {
    /// The build or version.
    pub build: String,
    /// Tasks that no node has claimed.
    pub queued: u64,
    /// Seconds since the oldest of them was submitted, where one waits.
    pub oldest_seconds: Option<u64>,
    /// Live nodes of this build.
    pub nodes: usize,
}

/// A pool as it is now.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Overview {
    /// Whether the server has the pool: the first node or submitter makes it.
    pub exists: bool,
    /// Its nodes, by name.
    pub nodes: Vec<NodeInfo>,
    /// Its jobs.
    pub jobs: Vec<JobInfo>,
    /// What waits, by build.
    pub builds: Vec<BuildInfo>,
    /// Messages in the stream: a task has one for its queueing and one for its claim or outcome.
    pub messages: u64,
    /// Pieces of large inputs and values.
    pub pieces: u64,
}

/// Reads what there is of `pool` on a server, and changes nothing there. To be called in a runtime of
/// tokio's.
///
/// # Errors
///
/// [`Error::Connect`] and [`Error::Server`].
pub async fn observe(server: impl Into<Connection>, pool: &str) -> Result<Overview> {
    let Some(link) = Link::look(&server.into(), pool).await? else {
        return Ok(Overview::default());
    };
    read(&link).await.map_err(|()| silent(&link))
}

/// Ends a durable job of `pool`: its tasks are called off and its outcomes are gone. Returns whether
/// there was one. To be called in a runtime of tokio's.
///
/// # Errors
///
/// [`Error::Connect`] and [`Error::Server`]; [`Error::JobHeld`] while a process holds it;
/// [`Error::InvalidOption`] for what can be no job's name.
pub async fn end_job(server: impl Into<Connection>, pool: &str, name: &str) -> Result<bool> {
    check_job(name)?;
    let Some(link) = Link::look(&server.into(), pool).await? else { return Ok(false) };
    let claim = Claim::durable(&link, name).await?;
    let subject = link.names.job_key(&claim.key);
    let stored = link.key(JOBS, &subject).await.map_err(|()| silent(&link))?;
    let Some(stored) = stored else { return Ok(false) };
    let Some(found) = wire::decode::<JobKey>(&stored.payload) else { return Ok(false) };
    let (job, holder) = (found.job, wire::shown(&found.holder));
    let key = Key { serial: u64::MAX, alive: false, ..found.key };
    let value = wire::encode(&JobKey { key, held: false, ..found });
    match link.swap_key(JOBS, &subject, claim.revision, value, link::PATIENCE).await {
        Swap::Won(revision) => {
            if link.purge_job(job).await {
                link.forget_key(JOBS, &subject, revision).await;
            }
            Ok(true)
        }
        _ => Err(Error::JobHeld { job: name.to_owned(), holder }),
    }
}

/// What is said where the server does not answer an observer.
fn silent(link: &Link) -> Error {
    Error::Server(link.complaint().unwrap_or_else(|| "it does not answer".to_owned()))
}

/// Checks the name of a durable job.
pub(crate) fn check_job(name: &str) -> Result<()> {
    if wire::is_token(name) && name.len() <= 30 {
        return Ok(());
    }
    Err(Error::InvalidOption {
        name: "job",
        value: name.to_owned(),
        allowed: "1 to 30 letters, digits, '-' and '_'".to_owned(),
    })
}

/// A task without its class: job and number.
type Which = (u128, u64);

async fn read(link: &Link) -> std::result::Result<Overview, ()> {
    let mut all = Overview { exists: true, ..Overview::default() };
    for name in link.keys(NODES).await? {
        let Some(stored) = link.key(NODES, &link.names.node_key(&name)).await? else { continue };
        let Some(key) = wire::decode::<NodeKey>(&stored.payload) else { continue };
        all.nodes.push(NodeInfo {
            name,
            alive: key.key.alive,
            draining: key.draining,
            broken: key.key.alive && key.processes > 0 && key.places == 0,
            host: key.host,
            pid: key.pid,
            build: key.build,
            processes: key.processes,
            places: key.places,
            taken: key.taken,
            done: key.done,
            failed: key.failed,
            lost: key.lost,
            heartbeat_seconds: link::age(stored.time),
            pull_seconds: key.pull_seconds.saturating_add(link::age(stored.time)),
            revision: stored.seq,
        });
    }
    all.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let pool = &link.names.pool;
    let (mut queued, mut written): (BTreeMap<Which, String>, BTreeSet<Which>) = Default::default();
    for subject in link.subjects(&link.names.stream(), &format!("aiopool.{pool}.>")).await? {
        all.messages += 1;
        let Some(tail) = Tail::parse(&subject) else { continue };
        if subject.split('.').nth(2) == Some("q") {
            queued.insert((tail.job, tail.n), tail.build);
        } else {
            written.insert((tail.job, tail.n));
        }
    }
    let pieces = link.subjects(&link.names.blobs(), &format!("aiopool.{pool}.b.>")).await?;
    all.pieces = pieces.len() as u64;
    let tasks: BTreeSet<Which> = queued.keys().chain(&written).copied().collect();
    queued.retain(|which, _| !written.contains(which));
    for name in link.keys(JOBS).await? {
        let Some(stored) = link.key(JOBS, &link.names.job_key(&name)).await? else { continue };
        let Some(key) = wire::decode::<JobKey>(&stored.payload) else { continue };
        let of = (key.job, 0)..=(key.job, u64::MAX);
        all.jobs.push(JobInfo {
            job: wire::name_of_key(&name).to_owned(),
            holder: key.holder,
            alive: key.key.alive,
            durable: key.durable,
            held: key.held,
            taken: key.taken,
            lease_seconds: key.lease / 1_000_000_000,
            heartbeat_seconds: link::age(stored.time),
            tasks: tasks.range(of.clone()).count() as u64,
            queued: queued.range(of).count() as u64,
        });
    }
    let mut builds: BTreeMap<&String, (u64, Option<u64>)> = BTreeMap::new();
    for node in all.nodes.iter().filter(|node| node.alive) {
        builds.entry(&node.build).or_default();
    }
    for build in queued.values() {
        builds.entry(build).or_default().0 += 1;
    }
    for (build, entry) in builds.iter_mut().filter(|(_, entry)| entry.0 > 0) {
        entry.1 = link.oldest(build).await?.map(link::age);
    }
    let count = |build: &String| all.nodes.iter().filter(|n| n.alive && n.build == *build).count();
    let info = |(build, (queued, oldest_seconds)): (&String, _)| {
        let nodes = count(build);
        BuildInfo { build: build.clone(), queued, oldest_seconds, nodes }
    };
    all.builds = builds.into_iter().map(info).collect();
    Ok(all)
}
