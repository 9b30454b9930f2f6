//! The driver without a pool: one process, one thread, many pages in flight.

use std::num::NonZeroUsize;
use std::pin::pin;

use futures_util::StreamExt;
use futures_util::stream;

use super::{Book, Job, Observer, fetch_detail, fetch_list, pipelined};

/// Runs `job` on the calling task with up to `concurrency` pages of a kind in flight, and tells
/// `observer` of each page in list order.
///
/// # Errors
///
/// What `observer` returned. A page that fails is no error here; the observer gets it.
///
/// # Cancel safety
///
/// Dropping it abandons the pages in flight.
pub async fn run(
    job: &Job,
    concurrency: NonZeroUsize,
    observer: &mut impl Observer,
) -> anyhow::Result<()> {
    if job.is_pipelined() {
        return pipelined::run(job, concurrency, observer, list, detail).await;
    }
    let mut urls = Vec::new();
    let lists = stream::iter(job.list_urls()).map(async |url| (list(url.clone()).await, url));
    let mut lists = pin!(lists.buffered(concurrency.get()));
    while let Some((outcome, url)) = lists.next().await {
        observer.list(&url, outcome.as_ref().map(Vec::len).map_err(String::clone))?;
        urls.extend(outcome.unwrap_or_default());
    }
    let details = stream::iter(urls).map(async |url| (detail(url.clone()).await, url));
    let mut details = pin!(details.buffered(concurrency.get()));
    while let Some((outcome, url)) = details.next().await {
        observer.detail(&url, outcome)?;
    }
    Ok(())
}

async fn list(url: String) -> Result<Vec<String>, String> {
    fetch_list(url).await.map_err(|error| format!("{error:#}"))
}

async fn detail(url: String) -> Result<Book, String> {
    fetch_detail(url).await.map_err(|error| format!("{error:#}"))
}
