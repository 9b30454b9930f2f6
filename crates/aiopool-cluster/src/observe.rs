//! What is there: nodes, queues, jobs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::link::{Access, JOBS, Link, NODES};
use crate::wire::{self, JobKey, NodeKey};

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
    /// The revision of its key; it grows with each renewal.
    pub revision: u64,
}

/// A job, as its key says.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JobInfo {
    /// The job's number, in hexadecimal digits.
    pub job: String,
    /// Whose it is: host and process.
    pub holder: String,
    /// Whether its key says that it lives.
    pub alive: bool,
    /// Messages of it in the stream: queued, claimed and over.
    pub messages: u64,
}

/// A pool as it is now.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Overview {
    /// Its nodes, by name.
    pub nodes: Vec<NodeInfo>,
    /// Its jobs.
    pub jobs: Vec<JobInfo>,
    /// Messages in the stream: each is a task that is queued, claimed, or over and not purged.
    pub messages: u64,
    /// By build, the queued messages that are in the stream, whether claimed or not.
    pub queued: BTreeMap<String, u64>,
    /// Builds with queued messages that no live node runs.
    pub without_node: Vec<String>,
}

/// Reads what there is of `pool` on the server at `url`.
///
/// # Errors
///
/// [`Error::Connect`] and [`Error::Server`].
pub async fn observe(url: &str, pool: &str) -> Result<Overview> {
    let access = Access { url: url.to_owned(), ..Access::default() };
    let link = Link::connect(&access, pool, "aiopool observer").await?;
    let silent = |()| Error::Server("it does not answer".to_owned());
    let mut all = Overview::default();
    for name in link.keys(NODES).await.map_err(silent)? {
        let stored = link.key(NODES, &link.names.node_key(&name)).await.map_err(silent)?;
        let Some(stored) = stored else { continue };
        let Some(key) = wire::decode::<NodeKey>(&stored.payload) else { continue };
        all.nodes.push(NodeInfo {
            name,
            alive: key.key.alive,
            draining: key.draining,
            host: key.host,
            pid: key.pid,
            build: key.build,
            processes: key.processes,
            places: key.places,
            taken: key.taken,
            done: key.done,
            failed: key.failed,
            revision: stored.seq,
        });
    }
    all.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    for job in link.keys(JOBS).await.map_err(silent)? {
        let Ok(number) = u128::from_str_radix(&job, 16) else { continue };
        let stored = link.key(JOBS, &link.names.job_key(number)).await.map_err(silent)?;
        let Some(key) = stored.and_then(|s| wire::decode::<JobKey>(&s.payload)) else { continue };
        let messages = link.subjects(&link.names.of_job(number)).await.map_err(silent)?.len();
        let (alive, holder) = (key.key.alive, key.holder);
        all.jobs.push(JobInfo { job, holder, alive, messages: messages as u64 });
    }
    for subject in link.subjects(&format!("aiopool.{pool}.>")).await.map_err(silent)? {
        all.messages += 1;
        let parts: Vec<&str> = subject.split('.').collect();
        if let [_, _, "q", _, build, ..] = parts[..] {
            *all.queued.entry(build.to_owned()).or_default() += 1;
        }
    }
    let served = |build: &String| all.nodes.iter().any(|n| n.alive && n.build == *build);
    all.without_node = all.queued.keys().filter(|build| !served(build)).cloned().collect();
    Ok(all)
}
