//! The engine that does the work of a scrape, and what it costs.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Duration;

use aiopool::{Pool, block_on};
use aiopool_bench::output;
use aiopool_cluster::interrupt;
use aiopool_scrape::fetch::{self, FetchOptions};
use aiopool_scrape::{Job, Observer, pooled, single};
use anyhow::Context;
use futures_util::future::{Either, select};
use serde::Serialize;

use crate::logs;
use crate::nats::Nodes;

/// Who runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Worker processes
    Pool,
    /// This process alone
    Single,
    /// Nodes on other machines
    #[value(skip)]
    Cluster,
}

/// The numbers that an engine works with. All but `concurrency` and `fetch` are the pool's.
pub struct Setup {
    pub processes: Option<usize>,
    pub queues: usize,
    pub concurrency: NonZeroUsize,
    pub max_tasks_per_child: u64,
    pub retries: u32,
    pub fetch: FetchOptions,
}

/// What an engine tells about its run.
pub struct Effort {
    pub cpu_seconds: f64,
    pub processes: u64,
    pub worker_deaths: u64,
    pub retries: u64,
    /// By node, how many pages it read; empty without nodes.
    pub nodes: BTreeMap<String, u64>,
    /// The signal that ended the run before its time.
    pub interrupted: Option<&'static str>,
    /// What ended the pool before its time.
    pub broken: Option<aiopool::Error>,
}

/// Runs `job` on this process alone, until it is done or interrupted.
pub fn single(setup: &Setup, job: &Job, observer: &mut impl Observer) -> anyhow::Result<Effort> {
    fetch::configure(setup.fetch.clone());
    let before = cpu_seconds()?;
    let interrupted = block_on(uninterrupted(single::run(job, setup.concurrency, observer)))?;
    let cpu_seconds = cpu_seconds()? - before;
    let (processes, worker_deaths, retries, broken) = (1, 0, 0, None);
    let nodes = BTreeMap::new();
    Ok(Effort { cpu_seconds, processes, worker_deaths, retries, nodes, interrupted, broken })
}

/// Builds the pool that `setup` asks for.
pub fn build_pool(setup: &Setup) -> aiopool::Result<Pool> {
    let builder = pooled::builder(setup.fetch.clone())
        .queues(setup.queues)
        .child_concurrency(setup.concurrency.get())
        // They have inherited the subscriber, and know nothing of the bars that are drawn.
        .logs(aiopool::logs().filter(logs::filter()))
        .max_tasks_per_child(setup.max_tasks_per_child);
    match setup.processes {
        Some(processes) => builder.processes(processes).build(),
        None => builder.build(),
    }
}

/// Runs `job` in the workers of `pool`, until it is done or interrupted, and ends the pool.
pub fn pooled(
    setup: &Setup,
    pool: Pool,
    job: &Job,
    observer: &mut impl Observer,
) -> anyhow::Result<Effort> {
    let before = cpu_seconds()?;
    let (interrupted, ended) = block_on(async {
        let interrupted = uninterrupted(pooled::run(&pool, job, setup.retries, observer)).await?;
        // What is still in flight was cancelled when the interrupt came.
        pool.close();
        anyhow::Ok((interrupted, pool.join().await))
    })?;
    let stats = pool.stats();
    Ok(Effort {
        cpu_seconds: cpu_seconds()? - before + stats.cpu.as_secs_f64(),
        processes: pool.processes() as u64,
        worker_deaths: stats.deaths,
        retries: stats.retries,
        nodes: BTreeMap::new(),
        interrupted,
        broken: ended.err(),
    })
}

/// Runs `job` on the nodes of a pool, until it is done or interrupted.
pub fn clustered(
    setup: &Setup,
    nodes: Nodes,
    job: &Job,
    observer: &mut impl Observer,
) -> anyhow::Result<Effort> {
    let before = cpu_seconds()?;
    let work = pooled::run(&nodes, job, setup.retries, observer);
    let told = async {
        if tokio::time::timeout(WITHOUT_NODES, nodes.0.ready()).await.is_err() {
            output::complain(format_args!(
                "waiting: no node of this build is there yet; `aiopool nodes` shows which there \
                 are, and `aiopool node` of this very program is one"
            ));
        }
        std::future::pending().await
    };
    let work = async { select(pin!(work), pin!(told)).await.factor_first().0 };
    let interrupted = block_on(uninterrupted(work))?;
    let by_node = nodes.0.outcomes_by_node();
    // Waits until the job has gone from the server.
    drop(nodes);
    Ok(Effort {
        cpu_seconds: cpu_seconds()? - before,
        processes: by_node.len() as u64,
        worker_deaths: 0,
        retries: 0,
        nodes: by_node,
        interrupted,
        broken: None,
    })
}

/// How long a scrape waits for a node before it says so.
const WITHOUT_NODES: Duration = Duration::from_secs(5);

/// Does `work` until its end or the first Ctrl-C; true for the latter.
async fn uninterrupted(
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Option<&'static str>> {
    match select(pin!(work), pin!(interrupt::first())).await {
        Either::Left((done, _)) => done.map(|()| None),
        Either::Right((signal, _)) => Ok(Some(signal)),
    }
}

/// The CPU time of this process so far, user and system.
fn cpu_seconds() -> anyhow::Result<f64> {
    /// `USER_HZ`, part of the kernel's interface on x86-64 and aarch64.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // The second field is the program's name in parentheses and may hold anything.
    let fields = stat.rsplit_once(')').context("/proc/self/stat has no name in it")?.1;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = ticks().zip(ticks()).context("/proc/self/stat has no CPU time in it")?;
    Ok((user + system) as f64 / TICKS_PER_SECOND)
}
