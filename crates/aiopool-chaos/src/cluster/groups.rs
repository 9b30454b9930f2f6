//! Maps of attempts so short that several of them are under one word.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use aiopool::TaskOptions;
use aiopool_cluster::Cluster;

use super::{RETRIES, WATCHDOG, attempt, judge};
use crate::figures::Figures;

/// The first number of an item that goes with others; no process's number is in it.
const FIRST: u64 = 1 << 62;

/// Items of one map.
const ITEMS: u64 = 128;

/// Between two maps, so that the book of ten minutes can be read.
const PAUSE: Duration = Duration::from_millis(250);

/// Whether an item of a map has retries; `None` for any other task.
pub fn is_retried(n: u64) -> Option<bool> {
    (n >= FIRST).then(|| (n / ITEMS).is_multiple_of(2))
}

async fn short((book, n): (String, u64)) -> u64 {
    attempt((book, n, 0)).await
}

/// Submits one map after the other until it is told to stop, and waits for every outcome.
pub async fn submit(
    cluster: &Cluster,
    book: &str,
    stopping: &AtomicBool,
) -> (HashMap<u64, bool>, Figures) {
    let (mut outcomes, mut figures) = (HashMap::new(), Figures::default());
    let mut next = FIRST;
    while !stopping.load(Relaxed) {
        let numbers = next..next + ITEMS;
        next += ITEMS;
        let retried = is_retried(numbers.start).unwrap_or_default();
        let options = TaskOptions::new().retries(if retried { RETRIES } else { 0 });
        let items = numbers.clone().map(|n| (book.to_owned(), n));
        let results = cluster.with(options).map(short, items).results();
        figures.tasks += ITEMS;
        figures.count("grouped", ITEMS);
        let Ok(results) = tokio::time::timeout(WATCHDOG, results).await else {
            figures.wedged += ITEMS;
            figures.complain(format!("items of the map from {} have no outcome", numbers.start));
            break;
        };
        for (n, outcome) in numbers.zip(results) {
            let done = judge(n, outcome, &mut figures);
            outcomes.insert(n, done);
        }
        tokio::time::sleep(PAUSE).await;
    }
    (outcomes, figures)
}
