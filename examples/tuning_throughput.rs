//! Tuning, 3 of 5: very many small tasks. Advice: submit with `map`, and give it a large window;
//! leave `queues` at 1 unless there are many processes.
//!
//! Awaiting each task before the next costs a wake-up on both sides; a `map` keeps the rings full.
//! More queues only pay where very many workers contend for one ring.

use std::time::{Duration, Instant};

use aiopool::Pool;

async fn double(x: u64) -> u64 {
    x * 2
}

/// A build for debugging measures nothing worth knowing; it shows that the program works.
const ROUNDS: u32 = if cfg!(debug_assertions) { 1 } else { 5 };

/// The best of a few rounds: what else the machine does only ever makes it worse.
fn best(mut round: impl FnMut() -> aiopool::Result<Duration>) -> aiopool::Result<Duration> {
    (0..ROUNDS).map(|_| round()).reduce(|a, b| Ok(a?.min(b?))).unwrap_or(Ok(Duration::ZERO))
}

fn main() -> aiopool::Result<()> {
    const TASKS: u64 = if cfg!(debug_assertions) { 5_000 } else { 100_000 };
    let processors = std::thread::available_parallelism().map_or(1, usize::from).max(2);
    let rate = |tasks: u64, time: Duration| tasks as f64 / time.as_secs_f64();
    for queues in [1, processors] {
        let pool = Pool::builder().processes(processors).queues(queues).build()?;
        let time = best(|| {
            let start = Instant::now();
            for x in 0..5000 {
                assert_eq!(pool.apply(double, x).wait().ok(), Some(2 * x));
            }
            Ok(start.elapsed())
        })?;
        println!("{queues} queues, one at a time: {:.0} tasks/s", rate(5000, time));
        for window in [64, 2048] {
            let time = best(|| {
                let start = Instant::now();
                let done = pool.map(double, 0..TASKS).window(window).into_blocking_iter();
                assert_eq!(done.filter(Result::is_ok).count() as u64, TASKS);
                Ok(start.elapsed())
            })?;
            println!("{queues} queues, map of {window:>4}: {:.0} tasks/s", rate(TASKS, time));
        }
    }
    Ok(())
}
