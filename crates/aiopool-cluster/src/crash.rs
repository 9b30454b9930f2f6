//! Crash points: the places, numbered in README.md, at which this crate's own tests have a node or a
//! submitter die, to see what becomes of what it held.
//!
//! Without the feature `crash-points` all of this is nothing. With it, `AIOPOOL_CLUSTER_CRASH=N3`
//! has the process abort when it is at N3 for the first time.

use std::time::Duration;

/// A crash point. The rows of README.md say what is left there and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Delivered, nothing sent.
    N1,
    /// The claim sent, no answer.
    N2,
    /// The claim stored, not acknowledged.
    N3,
    /// The code started.
    N4,
    /// The outcome sent, no answer.
    N5,
    /// The outcome stored.
    N6,
    /// The task sent.
    S1,
    /// The next attempt sent.
    S2,
    /// The tombstone stored, the word not changed.
    S3,
    /// The chunk marked, nothing purged.
    S4,
}

/// Whether this process is to die at `point`.
#[cfg(feature = "crash-points")]
fn is_the_one(point: Point) -> bool {
    std::env::var("AIOPOOL_CLUSTER_CRASH").is_ok_and(|name| name == format!("{point:?}"))
}

#[cfg(not(feature = "crash-points"))]
const fn is_the_one(_: Point) -> bool {
    false
}

/// Says that this process is at `point`.
pub(crate) fn here(point: Point) {
    if is_the_one(point) {
        std::process::abort();
    }
}

/// Says that this process will be at `point` when a worker has had the time to begin.
pub(crate) fn soon(point: Point) {
    if is_the_one(point) {
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            std::process::abort();
        });
    }
}

/// Says that something was published: at `point` this process dies when the server has it.
pub(crate) fn published(point: Point, client: &async_nats::Client) {
    if is_the_one(point) {
        let client = client.clone();
        tokio::spawn(async move {
            let _ = client.flush().await;
            std::process::abort();
        });
    }
}
