//! The last line of a scrape, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io::Write;
use std::time::Duration;

use aiopool_scrape::Harvest;
use serde::Serialize;

use crate::engine::{Effort, Engine};

/// The result of a scrape. The names and their order are the contract of `--json`.
#[derive(Debug, Serialize)]
pub struct Summary {
    books: u64,
    pages: u64,
    failed: u64,
    seconds: f64,
    cpu_seconds: f64,
    engine: Engine,
    processes: u64,
    worker_deaths: u64,
    retries: u64,
    /// Pages by node, with nodes only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    nodes: BTreeMap<String, u64>,
}

impl Summary {
    pub fn new<W: Write>(
        harvest: &Harvest<W>,
        elapsed: Duration,
        engine: Engine,
        effort: &Effort,
    ) -> Self {
        Self {
            books: harvest.books(),
            pages: harvest.pages(),
            failed: harvest.failures().len() as u64,
            seconds: rounded(elapsed.as_secs_f64()),
            cpu_seconds: rounded(effort.cpu_seconds),
            engine,
            processes: effort.processes,
            worker_deaths: effort.worker_deaths,
            retries: effort.retries,
            nodes: effort.nodes.clone(),
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { books, pages, failed, seconds, cpu_seconds, .. } = self;
        write!(f, "{books} books from {pages} pages, {failed} failed, in {seconds:.3} s")?;
        match self.engine {
            Engine::Pool => write!(f, " with {} workers", self.processes),
            Engine::Single => write!(f, " in one process"),
            Engine::Cluster => write!(f, " on {} nodes", self.processes),
        }?;
        write!(f, " (user+system CPU {cpu_seconds:.3} s")?;
        if self.worker_deaths > 0 || self.retries > 0 {
            write!(f, "; {} worker deaths, {} retries", self.worker_deaths, self.retries)?;
        }
        f.write_str(")")?;
        for (node, pages) in &self.nodes {
            write!(f, "\n{node}: {pages} pages")?;
        }
        Ok(())
    }
}

/// Rounds to milliseconds: more digits would mean nothing.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}
