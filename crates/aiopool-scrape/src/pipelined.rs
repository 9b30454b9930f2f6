//! The pipelined order of work without a pool: details start as soon as their list is in.

use std::num::NonZeroUsize;
use std::pin::pin;

use futures_util::StreamExt;
use futures_util::stream;

use super::{Book, Job, Observer};

/// A page to tell the observer of.
enum Arrival {
    List(String, Result<usize, String>),
    Detail(String, Result<Book, String>),
}

/// What is known once a list page is in.
enum Step {
    Told(String, Result<usize, String>),
    Detail(String),
}

/// Runs `job` by calls of `list` and `detail`, up to `window` of each at a time, and tells
/// `observer` of each list page followed by its details.
pub(super) async fn run<L, D>(
    job: &Job,
    window: NonZeroUsize,
    observer: &mut impl Observer,
    list: impl Fn(String) -> L,
    detail: impl Fn(String) -> D,
) -> anyhow::Result<()>
where
    L: Future<Output = Result<Vec<String>, String>>,
    D: Future<Output = Result<Book, String>>,
{
    let lists = stream::iter(job.list_urls()).map(|url| {
        let outcome = list(url.clone());
        async { steps(url, outcome.await) }
    });
    let arrivals = lists.buffered(window.get()).flat_map(stream::iter).map(|step| {
        let arrival = match step {
            Step::Told(url, outcome) => Ok(Arrival::List(url, outcome)),
            Step::Detail(url) => Err((detail(url.clone()), url)),
        };
        async {
            match arrival {
                Ok(told) => told,
                Err((outcome, url)) => Arrival::Detail(url, outcome.await),
            }
        }
    });
    let mut arrivals = pin!(arrivals.buffered(window.get()));
    while let Some(arrival) = arrivals.next().await {
        match arrival {
            Arrival::List(url, outcome) => observer.list(&url, outcome)?,
            Arrival::Detail(url, outcome) => observer.detail(&url, outcome)?,
        }
    }
    Ok(())
}

fn steps(url: String, outcome: Result<Vec<String>, String>) -> Vec<Step> {
    match outcome {
        Ok(details) => {
            let told = Step::Told(url, Ok(details.len()));
            std::iter::once(told).chain(details.into_iter().map(Step::Detail)).collect()
        }
        Err(error) => vec![Step::Told(url, Err(error))],
    }
}
