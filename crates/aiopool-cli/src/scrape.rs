//! `aiopool scrape`: the reference workload.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use aiopool::Error;
use aiopool_scrape::Job;
use aiopool_scrape::fetch::FetchOptions;
use aiopool_scrape::site::{LIST_PAGES, SiteProcess};
use clap::value_parser as parser;

use crate::engine::{self, Engine, Setup};
use crate::nats::{Nodes, Server};
use crate::progress::Shown;
use crate::summary::Summary;
use aiopool_bench::output;
use aiopool_cluster::{Cluster, Error as ClusterError};

/// Scrapes a book shop, the built-in one by default, into a CSV file
///
/// The last line of output is the summary. Its CPU time is the user and system time of this process
/// and, with the pool, of its workers. The built-in site, which stands for a server elsewhere, is not
/// included.
/// Exit status: 0 done, 1 something failed, 2 wrong usage.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Site to scrape, built like books.toscrape.com; without it the built-in site is started
    #[arg(long, value_name = "URL", value_parser = |url: &str| Job::new(url, 1).map(|_| url.to_owned()))]
    base_url: Option<String>,
    /// List pages to read; the built-in site has 50
    #[arg(long, value_name = "N", default_value_t = LIST_PAGES, allow_negative_numbers = true)]
    #[arg(value_parser = parser!(u32).range(1..))]
    pages: u32,
    /// File to write the books to
    #[arg(long, value_name = "FILE", default_value = "books.csv")]
    out: PathBuf,
    /// The engine that does the work
    #[arg(long, default_value = "pool")]
    engine: Engine,
    /// Work on the nodes of a pool over NATS: these servers, with commas between them. The nodes are
    /// `aiopool node` of this very build, and have to reach the site
    #[arg(long, value_name = "URL", conflicts_with_all = ["engine", "processes", "queues",
        "child_concurrency", "max_tasks_per_child", "timeout_ms", "fetch_retries"])]
    nats: Option<String>,
    #[command(flatten)]
    server: Server,
    /// Worker processes of the pool; without it one for each processor that may be used
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = parser!(u32).range(1..))]
    processes: Option<u32>,
    /// Queues of the pool, at most one for each worker process
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = parser!(u32).range(1..))]
    queues: u32,
    /// Pages in flight in each process
    #[arg(long, value_name = "N", default_value_t = 16, allow_negative_numbers = true)]
    #[arg(value_parser = parser!(u32).range(1..))]
    child_concurrency: u32,
    /// Pages that a worker process fetches before it is replaced; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_tasks_per_child: u64,
    /// Further tries of a page whose worker process died alone with it
    #[arg(long, value_name = "N", default_value_t = 100)]
    retries: u32,
    /// Start a page's details as soon as its list is in, not after the last list
    #[arg(long)]
    pipelined: bool,
    /// Delay of each answer of the built-in site in milliseconds
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "base_url")]
    latency_ms: u64,
    /// Longest time for one try of a page, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 30_000, allow_negative_numbers = true)]
    #[arg(value_parser = parser!(u64).range(1..))]
    timeout_ms: u64,
    /// Further tries of a page whose connection failed or that answered 408, 429 or 5xx
    #[arg(long, value_name = "N", default_value_t = 3)]
    fetch_retries: u32,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Checks what clap cannot: values that are wrong together.
    fn misuse(&self) -> Option<String> {
        if self.base_url.is_none() && self.pages > LIST_PAGES {
            let pages = self.pages;
            return Some(format!("--pages {pages}: the built-in site has 1 to {LIST_PAGES}"));
        }
        None
    }

    fn setup(&self) -> anyhow::Result<Setup> {
        Ok(Setup {
            processes: self.processes.map(|processes| processes as usize),
            queues: self.queues as usize,
            concurrency: NonZeroUsize::try_from(self.child_concurrency as usize)?,
            max_tasks_per_child: self.max_tasks_per_child,
            retries: self.retries,
            fetch: self.fetch_options(),
        })
    }

    fn fetch_options(&self) -> FetchOptions {
        let options = FetchOptions { retries: self.fetch_retries, ..FetchOptions::default() };
        options.with_total_timeout(Duration::from_millis(self.timeout_ms))
    }
}

pub fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    if args.nats.is_some() {
        args.engine = Engine::Cluster;
    }
    if let Some(message) = args.misuse() {
        return Ok(misused(&message));
    }
    if args.engine == Engine::Pool {
        // Before anything that starts a thread or opens what workers should not have.
        aiopool::init()?;
    }
    let setup = args.setup()?;
    let latency = Duration::from_millis(args.latency_ms);
    let site = match args.base_url {
        Some(_) => None,
        None => Some(SiteProcess::start(Path::new("/proc/self/exe"), latency)?),
    };
    let base_url = args.base_url.as_deref().or(site.as_ref().map(SiteProcess::base_url));
    let job = Job::new(base_url.unwrap_or_default(), args.pages)?.pipelined(args.pipelined);

    let started = Instant::now();
    let nodes = match &args.nats {
        Some(url) => {
            let connection = args.server.connection(url)?;
            match Cluster::builder(connection).pool(&args.server.pool).connect_blocking() {
                Err(error @ ClusterError::InvalidOption { .. }) => {
                    return Ok(misused(&error.to_string()));
                }
                cluster => Some(Nodes(cluster?)),
            }
        }
        None => None,
    };
    let pool = match args.engine {
        Engine::Single | Engine::Cluster => None,
        Engine::Pool => match engine::build_pool(&setup) {
            Ok(pool) => Some(pool),
            Err(error @ Error::InvalidOption { .. }) => return Ok(misused(&error.to_string())),
            Err(error) => return Err(error.into()),
        },
    };
    // Not before all that may be refused: a file that is there is not emptied for nothing.
    let mut shown = Shown::create(&args.out, args.pages)?;
    let effort = match (pool, nodes) {
        (Some(pool), _) => engine::pooled(&setup, pool, &job, &mut shown)?,
        (None, Some(nodes)) => engine::clustered(&setup, nodes, &job, &mut shown)?,
        (None, None) => engine::single(&setup, &job, &mut shown)?,
    };
    shown.finish()?;
    let summary = Summary::new(&shown.harvest, started.elapsed(), args.engine, &effort);

    for failure in shown.harvest.failures() {
        output::complain(format_args!("failed: {}: {}", failure.url, failure.error));
    }
    if let Some(error) = &effort.broken {
        output::complain(format_args!("error: {error}"));
    }
    if let Some(signal) = effort.interrupted {
        output::complain(format_args!(
            "error: interrupted by {signal}; the books read so far are written"
        ));
    }
    if args.json {
        output::say(format_args!("{}", serde_json::to_string(&summary)?))?;
    } else {
        output::say(format_args!("{summary}"))?;
    }
    let whole = effort.interrupted.is_none() && effort.broken.is_none();
    let well = shown.harvest.failures().is_empty() && whole;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn misused(message: &str) -> ExitCode {
    output::complain(format_args!("error: {message}"));
    ExitCode::from(2)
}
