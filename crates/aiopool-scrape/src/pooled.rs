//! The driver with a pool: the same tasks, run by its workers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;

use futures_util::{StreamExt, stream};

use super::fetch::{self, FetchOptions};
use super::{Job, Observer, fetch_detail, fetch_list};
use aiopool::{Pool, PoolBuilder, TaskError, TaskOptions};

/// A builder of pools whose workers fetch with `options`.
///
/// It takes the place of the pool's initializer.
pub fn builder(options: FetchOptions) -> PoolBuilder {
    Pool::builder().initializer(configure, options)
}

async fn configure(options: FetchOptions) -> Result<(), Infallible> {
    fetch::configure(options);
    Ok(())
}

/// Runs `job` in the workers of `pool` and tells `observer` of each page in list order.
///
/// `retries` is how often a page is fetched again whose worker died; fetching twice does no harm.
///
/// # Errors
///
/// What `observer` returned. A page that fails is no error here; the observer gets it.
///
/// # Cancel safety
///
/// Dropping it calls off the pages in flight; the pool can be used on.
pub async fn run(
    pool: &Pool,
    job: &Job,
    retries: u32,
    observer: &mut impl Observer,
) -> anyhow::Result<()> {
    let options = TaskOptions::new().retries(retries);
    if job.is_pipelined() {
        return run_pipelined(pool, job, options, observer).await;
    }
    let mut urls = Vec::new();
    let lists = pool.with(options).try_map(fetch_list, job.list_urls());
    let mut lists = stream::iter(job.list_urls()).zip(lists);
    while let Some((url, outcome)) = lists.next().await {
        observer.list(&url, outcome.as_ref().map(Vec::len).map_err(TaskError::to_string))?;
        urls.extend(outcome.unwrap_or_default());
    }
    let details = pool.with(options).try_map(fetch_detail, urls.clone());
    let mut details = stream::iter(urls).zip(details);
    while let Some((url, outcome)) = details.next().await {
        observer.detail(&url, outcome.map_err(|error| error.to_string()))?;
    }
    Ok(())
}

/// A page for the observer, in its turn.
enum Turn {
    List(String, Result<usize, String>),
    Detail(String),
}

/// One map feeds the other: the books of a list page are submitted as soon as it is in.
async fn run_pipelined(
    pool: &Pool,
    job: &Job,
    options: TaskOptions,
    observer: &mut impl Observer,
) -> anyhow::Result<()> {
    let turns = RefCell::new(VecDeque::new());
    let lists = pool.with(options).try_map(fetch_list, job.list_urls());
    let urls = stream::iter(job.list_urls()).zip(lists).flat_map(|(url, outcome)| {
        let known = outcome.as_ref().map(Vec::len).map_err(TaskError::to_string);
        let details = outcome.unwrap_or_default();
        let mut turns = turns.borrow_mut();
        turns.push_back(Turn::List(url, known));
        turns.extend(details.iter().cloned().map(Turn::Detail));
        stream::iter(details)
    });
    let mut details = pool.with(options).try_map_stream(fetch_detail, urls);
    loop {
        let mut outcome = details.next().await;
        let last = outcome.is_none();
        // Lists stand before their details; after the last detail there may be lists without any.
        while last || outcome.is_some() {
            let Some(turn) = turns.borrow_mut().pop_front() else { break };
            match turn {
                Turn::List(url, known) => observer.list(&url, known)?,
                Turn::Detail(url) => {
                    let outcome = outcome.take().expect("there is an outcome for each input");
                    observer.detail(&url, outcome.map_err(|error| error.to_string()))?;
                }
            }
        }
        if last {
            return Ok(());
        }
    }
}
