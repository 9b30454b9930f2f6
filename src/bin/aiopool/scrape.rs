//! `aiopool scrape`: the reference workload.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use aiopool::scrape::fetch::{self, FetchOptions};
use aiopool::scrape::site::{LIST_PAGES, SiteProcess};
use aiopool::scrape::{Harvest, Job, single};
use anyhow::Context;
use clap::value_parser as parser;
use futures_util::future::{Either, select};

use crate::output;
use crate::progress::Shown;
use crate::summary::{Effort, Engine, Summary, cpu_seconds};

/// Scrapes a book shop, the built-in one by default, into a CSV file
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Site to scrape, built like books.toscrape.com; without it the built-in site is started
    #[arg(long, value_name = "URL", value_parser = |url: &str| Job::new(url, 1).map(|_| url.to_owned()))]
    base_url: Option<String>,
    /// How many list pages to read; the built-in site has 50
    #[arg(long, value_name = "N", default_value_t = LIST_PAGES, allow_negative_numbers = true)]
    #[arg(value_parser = parser!(u32).range(1..))]
    pages: u32,
    /// File to write the books to
    #[arg(long, value_name = "FILE", default_value = "books.csv")]
    out: PathBuf,
    /// Who does the work
    #[arg(long, default_value = "single")]
    engine: Engine,
    /// Pages of a kind in flight, in each process
    #[arg(long, value_name = "N", default_value_t = 16, allow_negative_numbers = true)]
    #[arg(value_parser = parser!(u32).range(1..))]
    child_concurrency: u32,
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
    /// Further tries of a page whose connection failed or that answered 5xx
    #[arg(long, value_name = "N", default_value_t = 3)]
    fetch_retries: u32,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What clap cannot see: values that are wrong together.
    fn misuse(&self) -> Option<String> {
        if self.base_url.is_none() && self.pages > LIST_PAGES {
            let pages = self.pages;
            return Some(format!("--pages {pages}: the built-in site has 1 to {LIST_PAGES}"));
        }
        None
    }

    fn unwritable(&self) -> String {
        format!("cannot write {}", self.out.display())
    }

    fn fetch_options(&self) -> FetchOptions {
        let options = FetchOptions { retries: self.fetch_retries, ..FetchOptions::default() };
        options.with_total_timeout(Duration::from_millis(self.timeout_ms))
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(message) = args.misuse() {
        output::complain(format_args!("error: {message}"));
        return Ok(ExitCode::from(2));
    }
    let out = File::create(&args.out).with_context(|| args.unwritable())?;
    let mut shown = Shown::new(Harvest::new(out)?, args.pages);
    let latency = Duration::from_millis(args.latency_ms);
    let site = match args.base_url {
        Some(_) => None,
        None => Some(SiteProcess::start(Path::new("/proc/self/exe"), latency)?),
    };
    let base_url = args.base_url.as_deref().or(site.as_ref().map(SiteProcess::base_url));
    let job = Job::new(base_url.unwrap_or_default(), args.pages)?.pipelined(args.pipelined);

    let started = Instant::now();
    let effort = harvest(&args, &job, &mut shown)?;
    shown.finish().with_context(|| args.unwritable())?;
    let summary = Summary::new(&shown.harvest, started.elapsed(), args.engine, &effort);

    for failure in shown.harvest.failures() {
        output::complain(format_args!("failed: {}: {}", failure.url, failure.error));
    }
    if effort.interrupted {
        output::complain(format_args!("error: interrupted; the books that were in are written"));
    }
    if args.json {
        output::say(format_args!("{}", serde_json::to_string(&summary)?))?;
    } else {
        output::say(format_args!("{summary}"))?;
    }
    let well = shown.harvest.failures().is_empty() && !effort.interrupted;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn harvest(args: &Args, job: &Job, shown: &mut Shown<File>) -> anyhow::Result<Effort> {
    fetch::configure(args.fetch_options());
    let concurrency = NonZeroUsize::try_from(args.child_concurrency as usize)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = cpu_seconds()?;
    let interrupted = runtime.block_on(async {
        let work = pin!(single::run(job, concurrency, shown));
        match select(work, pin!(ctrl_c())).await {
            // Only the file can end the work before its time.
            Either::Left((done, _)) => done.with_context(|| args.unwritable()).map(|()| false),
            Either::Right(((), _)) => Ok(true),
        }
    })?;
    let cpu_seconds = cpu_seconds()? - before;
    Ok(Effort { cpu_seconds, processes: 1, worker_deaths: 0, retries: 0, interrupted })
}

/// Ready at the first Ctrl-C; from then on a second one ends the process at once.
async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the first one ends us.
        return std::future::pending().await;
    }
    let second = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if runtime.is_ok_and(|runtime| runtime.block_on(tokio::signal::ctrl_c()).is_ok()) {
            std::process::exit(1);
        }
    };
    let _ = std::thread::Builder::new().name("ctrl-c".into()).spawn(second);
}
