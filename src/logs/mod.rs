//! Floor 3: what tasks log, on its way to the host's subscriber.
//!
//! A worker that has no logger of its own sends its `tracing` events and `log` records to the host,
//! which gives them to its own subscriber.
//!
//! - **L1** The host makes one pair of `SOCK_SEQPACKET` sockets a pool. The zygote keeps the
//!   workers' end, and each worker has a copy of it.
//! - **L2** A record is one message of at most [`record::LONGEST`] bytes. The worker sends it
//!   without waiting, so it arrives whole or not at all. Where the socket is full the worker counts
//!   the record as dropped, and its next record that is sent carries the count.
//! - **L3** One thread of the host reads the pair. What a worker wrote is input: bytes that are no
//!   record are reported, and nothing else happens.
//! - **L4** A worker that dies leaves in the socket what it has sent, and the host reads it. At the
//!   pool's end, after the last worker's death, the supervisor shuts the pair down; the thread
//!   reads what is left and ends.
#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]

mod callers;
mod forward;
mod reader;
mod record;
mod spans;

use env_filter::Filter;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub(crate) use callers::Callers;
pub(crate) use forward::{Forward, forward};
pub(crate) use reader::Reader;
pub(crate) use spans::Text;

/// Returns whether this process has a logger, of `tracing` or of `log`.
pub(crate) fn has_logger() -> bool {
    tracing::dispatcher::has_been_set() || log::max_level() > log::LevelFilter::Off
}

/// Which records of its workers a pool brings to the host.
///
/// Made by [`logs`], for [`PoolBuilder::logs`](crate::PoolBuilder::logs).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Logs {
    filter: Option<String>,
    off: bool,
}

/// Returns how a pool brings what its tasks log to the host, for
/// [`PoolBuilder::logs`](crate::PoolBuilder::logs).
///
/// A record that a task makes with `tracing` or `log` reaches the host's `tracing` subscriber or,
/// where there is none, the host's `log` logger. It keeps its level and its target, and says which
/// worker, process and task it comes from. Fields other than the message become part of the text;
/// the spans around it are in the field `spans`. Where the caller of the task was in a span, the
/// record is within that span.
///
/// Pools do this by themselves where the host has a subscriber or a logger when the pool is built,
/// and where its workers have none. A subscriber that workers inherit (set before [`init`]) or set
/// up in their initializer is theirs, and gets their records.
///
/// [`init`]: crate::init
///
/// # Limits
///
/// - A record longer than 8 KiB is cut.
/// - No worker waits for the host: some 200 records that the host has not read yet fit between
///   them, those beyond are dropped, and a warning says how many.
/// - Records of `log` begin after the worker's initializer, events of `tracing` with it.
///
/// # Examples
///
/// ```
/// # fn main() -> aiopool::Result<()> {
/// let pool = aiopool::Pool::builder()
///     .processes(2)
///     .logs(aiopool::logs().filter("warn,scraper=debug"))
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub fn logs() -> Logs {
    Logs::default()
}

impl Logs {
    /// Sets what workers send, in the form of `RUST_LOG`: `"info"`, `"warn,scraper=debug"`.
    ///
    /// Without it workers send up to the most detailed level that the host's subscriber or logger
    /// takes. With it they send their `tracing` events also where they have inherited a subscriber.
    pub fn filter(mut self, directives: impl Into<String>) -> Self {
        self.filter = Some(directives.into());
        self
    }

    /// Keeps records in the workers.
    pub fn off(mut self) -> Self {
        self.off = true;
        self
    }

    /// Returns what workers get to know, or `None` where they are to send nothing.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] for a filter that cannot be read.
    pub(crate) fn for_workers(&self) -> Result<Option<ForWorkers>> {
        if let Some(directives) = &self.filter {
            parse(directives).map_err(|error| Error::InvalidOption {
                name: "logs",
                value: directives.clone(),
                allowed: format!("a filter as in RUST_LOG, \"warn,scraper=debug\"; {error}"),
            })?;
        }
        if self.off || !has_logger() {
            return Ok(None);
        }
        let filter = self.filter.clone().unwrap_or_else(|| most_detailed().to_string());
        Ok(Some(ForWorkers { filter, asked_for: self.filter.is_some() }))
    }
}

/// What each worker gets to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForWorkers {
    /// What to send, as [`Logs::filter`] takes it.
    filter: String,
    /// The caller named the filter.
    asked_for: bool,
}

/// Returns the most detailed level that the calling thread's subscriber or logger takes.
fn most_detailed() -> log::LevelFilter {
    let events = tracing::level_filters::LevelFilter::current().into_level();
    let events =
        events.map_or(log::LevelFilter::Off, |level| record::level_of(&level).to_level_filter());
    if to_tracing() { events } else { log::max_level() }
}

/// Returns whether records go to a subscriber of `tracing`, rather than to a logger of `log`.
fn to_tracing() -> bool {
    tracing::dispatcher::get_default(|now| !now.is::<tracing::subscriber::NoSubscriber>())
}

fn parse(directives: &str) -> std::result::Result<Filter, env_filter::ParseError> {
    let mut builder = env_filter::Builder::new();
    builder.try_parse(directives)?;
    Ok(builder.build())
}
