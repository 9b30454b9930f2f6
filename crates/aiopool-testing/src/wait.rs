//! Waiting for what takes far less time than the watchdog allows.

use std::time::Duration;

/// The longest that a test waits: on a busy machine everything is done long before.
pub const WATCHDOG: Duration = Duration::from_secs(120);

/// Gives the output of `what`.
///
/// # Panics
///
/// When `what` is not ready within [`WATCHDOG`].
pub async fn in_time<F: IntoFuture>(what: F) -> F::Output {
    tokio::time::timeout(WATCHDOG, what.into_future()).await.expect("it hangs")
}

/// Polls `condition` until it holds, for states that nothing announces.
///
/// # Panics
///
/// When it does not hold within [`WATCHDOG`].
pub async fn until(mut condition: impl FnMut() -> bool) {
    in_time(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
