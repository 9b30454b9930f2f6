//! A crawler: stages that feed each other, errors of its own type, retries that it decides over.
//!
//!     cargo run --example crawler

use std::time::Duration;

use aiopool::{Pool, TaskContext, TaskError, TaskOptions, typed};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum FetchError {
    #[error("{0} is not there")]
    NotFound(String),
    #[error("the server is busy")]
    Busy,
}

/// A site without a network: every third page is busy at first, one is missing.
async fn fetch(page: u32) -> Result<String, FetchError> {
    let attempt = TaskContext::current().map_or(1, |task| task.attempt());
    tokio::time::sleep(Duration::from_millis(1)).await;
    match page {
        17 => Err(FetchError::NotFound(format!("page {page}"))),
        page if page % 3 == 0 && attempt == 1 => Err(FetchError::Busy),
        page => Ok((0..page % 4).map(|link| format!("{page}/{link} ")).collect()),
    }
}

/// The links of a page: several, or none.
async fn links(text: String) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

fn is_busy(error: &TaskError) -> bool {
    match error {
        TaskError::Failed(failure) => matches!(failure.downcast(), Some(FetchError::Busy)),
        TaskError::TimedOut { .. } => true,
        _ => false,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().processes(2).build()?;
    let polite = TaskOptions::new()
        .timeout(Duration::from_secs(5))
        .retries(3)
        .retry_if(is_busy)
        .backoff(Duration::from_millis(5))
        .jitter(true);
    let (mut texts, mut missing) = (Vec::new(), Vec::new());
    let mut pages = pool.with(polite).try_map(typed(fetch), 0..60).as_completed().enumerate();
    while let Some((page, result)) = pages.next().await {
        result.map_or_else(|error| missing.push((page, error)), |text| texts.push(text));
    }
    let found = pool.map_flat(links, texts).into_blocking_iter().flatten().count();
    println!("{found} links; page {}: {}", missing[0].0, missing[0].1);
    Ok(())
}
