//! The driver with a pool: the same tasks, run by its workers, on this machine or on others.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;

use futures_util::{Stream, StreamExt, stream};

use super::fetch::{self, FetchOptions};
use super::{Book, Job, Observer, fetch_detail, fetch_list};
use aiopool::{Pool, PoolBuilder, TaskOptions};

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

/// Workers of a pool that run the two tasks; results come in the order of the addresses.
pub trait Workers {
    /// Reads list pages.
    fn lists<S: Stream<Item = String>>(
        &self,
        options: TaskOptions,
        urls: S,
    ) -> impl Stream<Item = Result<Vec<String>, String>>;

    /// Reads detail pages.
    fn details<S: Stream<Item = String>>(
        &self,
        options: TaskOptions,
        urls: S,
    ) -> impl Stream<Item = Result<Book, String>>;
}

impl Workers for Pool {
    fn lists<S: Stream<Item = String>>(
        &self,
        options: TaskOptions,
        urls: S,
    ) -> impl Stream<Item = Result<Vec<String>, String>> {
        let lists = self.with(options).try_map_stream(fetch_list, urls);
        lists.map(|outcome| outcome.map_err(|error| error.to_string()))
    }

    fn details<S: Stream<Item = String>>(
        &self,
        options: TaskOptions,
        urls: S,
    ) -> impl Stream<Item = Result<Book, String>> {
        let details = self.with(options).try_map_stream(fetch_detail, urls);
        details.map(|outcome| outcome.map_err(|error| error.to_string()))
    }
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
    pool: &impl Workers,
    job: &Job,
    retries: u32,
    observer: &mut impl Observer,
) -> anyhow::Result<()> {
    let options = TaskOptions::new().retries(retries);
    if job.is_pipelined() {
        return run_pipelined(pool, job, options, observer).await;
    }
    let mut urls = Vec::new();
    let lists = pool.lists(options, stream::iter(job.list_urls()));
    let mut lists = pin!(stream::iter(job.list_urls()).zip(lists));
    while let Some((url, outcome)) = lists.next().await {
        observer.list(&url, outcome.as_ref().map(Vec::len).map_err(String::clone))?;
        urls.extend(outcome.unwrap_or_default());
    }
    let details = pool.details(options, stream::iter(urls.clone()));
    let mut details = pin!(stream::iter(urls).zip(details));
    while let Some((url, outcome)) = details.next().await {
        observer.detail(&url, outcome)?;
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
    pool: &impl Workers,
    job: &Job,
    options: TaskOptions,
    observer: &mut impl Observer,
) -> anyhow::Result<()> {
    let turns = RefCell::new(VecDeque::new());
    let lists = pool.lists(options, stream::iter(job.list_urls()));
    let urls = stream::iter(job.list_urls()).zip(lists).flat_map(|(url, outcome)| {
        let known = outcome.as_ref().map(Vec::len).map_err(String::clone);
        let details = outcome.unwrap_or_default();
        let mut turns = turns.borrow_mut();
        turns.push_back(Turn::List(url, known));
        turns.extend(details.iter().cloned().map(Turn::Detail));
        stream::iter(details)
    });
    let mut details = pin!(pool.details(options, urls));
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
                    observer.detail(&url, outcome)?;
                }
            }
        }
        if last {
            return Ok(());
        }
    }
}
