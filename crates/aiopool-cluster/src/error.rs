//! What can go wrong.

use std::time::Duration;

use aiopool::TaskError;

/// The result of the calls that set things up.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a cluster or a node could not be had, or ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has a value that cannot be used.
    #[error("{name} = {value}: {allowed}")]
    InvalidOption {
        /// The option.
        name: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// No server could be reached.
    #[error("cannot connect to {url}: {reason}")]
    Connect {
        /// Where to.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The server cannot be used: too old, without JetStream, without rights.
    #[error("the server cannot be used: {0}")]
    Server(String),
    /// Another node of this name is alive.
    #[error(
        "a node named {name} is alive: revision {revision}, on {host}, pid {pid}; choose another name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The revision of its key.
        revision: u64,
        /// Its machine.
        host: String,
        /// Its process.
        pid: u32,
    },
    /// The local pool failed.
    #[error("the node's pool: {0}")]
    Pool(String),
    /// A durable job has a holder.
    #[error(
        "the job {job} is held by {holder}: its holder is to leave it, or to be silent for \
         longer than its lease"
    )]
    JobHeld {
        /// The job.
        job: String,
        /// Its holder: host and process.
        holder: String,
    },
    /// The job was ended by another: its lease ran out.
    #[error("the job is lost: {0}")]
    JobLost(String),
}

/// Why a task has no value.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// What a task can end with on one machine, too.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The node that had the task is dead. Whether its code had started is not known.
    #[error(
        "node {node} was lost with the task on attempt {attempt}: it was silent for {silent_for:?}"
    )]
    NodeLost {
        /// The node's name.
        node: String,
        /// The attempt, from 1.
        attempt: u32,
        /// How long the submitter has not heard of it.
        silent_for: Duration,
    },
    /// The task's word has gone from the stream: purged by hand, or lost by the server.
    #[error(
        "the task's word has gone from the stream: it was purged by hand, or the server lost it"
    )]
    Vanished,
    /// A large input or value cannot be stored, or cannot be had as it was stored.
    #[error("the task's large input or value: {0}")]
    BlobLost(String),
    /// A resumed job was given another item here than its holder before gave.
    #[error(
        "item {n} is another one than the job had there: a job is resumed with the same functions \
         and items in the same order, by the same build"
    )]
    ItemsChanged {
        /// The item, from 0.
        n: u64,
    },
    /// The outcome of this task of a durable job was taken before.
    #[error("the outcome of item {n} was taken before the job was resumed")]
    Taken {
        /// The item, from 0.
        n: u64,
    },
    /// Nothing more can be said of the task: the job was lost, or the cluster handle has ended.
    #[error("{0}")]
    Ended(Error),
    /// The task was given back by nodes, which did not start it, too often.
    #[error("nodes gave the task back without starting it: {0}")]
    NotStarted(String),
}
