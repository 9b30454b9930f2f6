//! Tuning, 1 of 5: tasks that compute. Advice: a process for each processor, one queue.
//!
//! Prints the time for the same work with one process, the default, and twice as many. More
//! processes than processors only take turns. `child_concurrency` hardly matters: a worker takes
//! one task at a look, so none is stuck behind another while a sibling is idle.

use std::time::{Duration, Instant};

use aiopool::Pool;

async fn compute(rounds: u64) -> u64 {
    (0..rounds).fold(1, |x: u64, i| std::hint::black_box(x.wrapping_mul(31).wrapping_add(i)))
}

fn measure(processes: usize, child_concurrency: usize) -> aiopool::Result<Duration> {
    let pool = Pool::builder().processes(processes).child_concurrency(child_concurrency).build()?;
    pool.map(compute, [1; 64]).into_blocking_iter().for_each(drop);
    let start = Instant::now();
    let done = pool.map(compute, [WORK; 64]).into_blocking_iter().filter(Result::is_ok);
    assert_eq!(done.count(), 64);
    Ok(start.elapsed())
}

/// A build for debugging measures nothing worth knowing; it shows that the program works.
const ROUNDS: u32 = if cfg!(debug_assertions) { 1 } else { 5 };
const WORK: u64 = if cfg!(debug_assertions) { 30_000 } else { 3_000_000 };

/// The best of a few rounds: what else the machine does only ever makes it worse.
fn best(mut round: impl FnMut() -> aiopool::Result<Duration>) -> aiopool::Result<Duration> {
    (0..ROUNDS).map(|_| round()).reduce(|a, b| Ok(a?.min(b?))).unwrap_or(Ok(Duration::ZERO))
}

fn main() -> aiopool::Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    for processes in [1, processors, 2 * processors] {
        for child_concurrency in [1, 16] {
            let time = best(|| measure(processes, child_concurrency))?;
            println!("{processes} processes, {child_concurrency:>2} tasks each: {time:?}");
        }
    }
    Ok(())
}
