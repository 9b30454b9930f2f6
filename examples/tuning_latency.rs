//! Tuning, 2 of 5: tasks that wait, for a network or a disk. Advice: raise `child_concurrency`.
//!
//! Tasks in flight are processes × `child_concurrency`, and with tasks that only wait nothing else
//! counts: one process with 256 of them does as well as sixteen with 16.

use std::time::{Duration, Instant};

use aiopool::Pool;

async fn fetch(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

fn measure(processes: usize, child_concurrency: usize) -> aiopool::Result<Duration> {
    let pool = Pool::builder().processes(processes).child_concurrency(child_concurrency).build()?;
    pool.map(fetch, [1; 512]).into_blocking_iter().for_each(drop);
    let start = Instant::now();
    let done = pool.map(fetch, [20; 512]).as_completed().into_blocking_iter();
    assert_eq!(done.filter(Result::is_ok).count(), 512);
    Ok(start.elapsed())
}

/// A build for debugging measures nothing worth knowing; it shows that the program works.
const ROUNDS: u32 = if cfg!(debug_assertions) { 1 } else { 5 };

/// The best of a few rounds: what else the machine does only ever makes it worse.
fn best(mut round: impl FnMut() -> aiopool::Result<Duration>) -> aiopool::Result<Duration> {
    (0..ROUNDS).map(|_| round()).reduce(|a, b| Ok(a?.min(b?))).unwrap_or(Ok(Duration::ZERO))
}

fn main() -> aiopool::Result<()> {
    for (processes, child_concurrency) in [(1, 16), (2, 16), (2, 64), (1, 256)] {
        let time = best(|| measure(processes, child_concurrency))?;
        let in_flight = processes * child_concurrency;
        println!(
            "{processes} processes × {child_concurrency:>3} = {in_flight:>3} in flight: {time:?}, \
             ideal {:?}",
            Duration::from_millis(20) * 512_usize.div_ceil(in_flight) as u32
        );
    }
    Ok(())
}
