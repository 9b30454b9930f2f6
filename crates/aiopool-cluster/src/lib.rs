//! The verbs of `aiopool` over several machines, on NATS JetStream.
//!
//! `README.md` beside this crate's manifest has the protocol: roles, words, transitions, crash
//! points, the lease, and what each setting of the server does and does not promise.
#![forbid(unsafe_code)]

mod asks;
mod blob;
mod cluster;
mod connection;
mod counts;
mod crash;
mod error;
pub mod interrupt;
mod keeper;
mod link;
mod node;
mod observe;
pub mod protocol;
mod random;
mod runs;
mod streams;
mod taken;
mod wire;

pub use cluster::{
    Cluster, ClusterBuilder, ClusterStats, Collect, Encoded, Enumerated, Flat, Job, Keyed, Map,
    Parts, Submit, Task, TaskSet,
};
pub use connection::Connection;
pub use error::{ClusterError, Error, Result};
pub use node::{Node, NodeReport, node_main};
pub use observe::{BuildInfo, JobInfo, NodeInfo, Overview, end_job, observe};
