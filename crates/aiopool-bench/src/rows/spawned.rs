//! tokio's tasks: one by one, in bulk, on its blocking threads.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{BLOCK, same};
use crate::contest::quantile;

/// The median time of a spawn and its end, in microseconds.
pub async fn one_by_one() -> anyhow::Result<f64> {
    median_us_async(async || {
        std::hint::black_box(tokio::spawn(same(7)).await?);
        Ok(())
    })
    .await
}

/// The same on the threads for what blocks.
pub async fn blocking() -> anyhow::Result<f64> {
    median_us_async(async || {
        std::hint::black_box(tokio::task::spawn_blocking(|| 7).await?);
        Ok(())
    })
    .await
}

/// The time of `tasks`, `window` of them in flight.
pub async fn many(window: usize, tasks: u64) -> anyhow::Result<Duration> {
    for _ in 0..3 {
        tokio::spawn(same(1)).await?;
    }
    let start = Instant::now();
    let mut sum = 0;
    let mut in_flight = VecDeque::with_capacity(window);
    for x in 0..tasks {
        if in_flight.len() == window
            && let Some(oldest) = in_flight.pop_front()
        {
            let oldest: tokio::task::JoinHandle<u64> = oldest;
            sum += oldest.await?;
        }
        in_flight.push_back(tokio::spawn(same(x)));
    }
    for task in in_flight {
        sum += task.await?;
    }
    let time = start.elapsed();
    anyhow::ensure!(sum == tasks * (tasks - 1) / 2, "a task gave a wrong result");
    Ok(time)
}

/// What `work` gives when it runs on a thread of the runtime itself instead of on the caller's:
/// what it spawns need not be handed over then.
pub async fn within_a_task<T: Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::spawn(work).await?
}

/// Does `once` again and again for a block, after a few times that do not count, and gives the
/// median time of one in microseconds.
pub async fn median_us_async(
    mut once: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    for _ in 0..3 {
        once().await?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < BLOCK {
        let before = Instant::now();
        once().await?;
        times.push(before.elapsed().as_nanos() as f64 / 1e3);
    }
    Ok(quantile(&times, 0.5))
}
