//! Tuning, 4 of 5: durations that differ. Advice: one queue, where an idle worker always takes the
//! next task; with several queues, `LeastLoaded`; and the results `as_completed`, if their order
//! is of no use.
//!
//! Every eighth task is long. Dealt out in turn to two queues, all long ones fall on one of them.

use std::time::{Duration, Instant};

use aiopool::Pool;
use aiopool::scheduler::{LeastLoaded, RoundRobin, Scheduler};

async fn work(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

fn measure(queues: usize, scheduler: impl Scheduler) -> aiopool::Result<Duration> {
    let pool = Pool::builder().processes(2).queues(queues).scheduler(scheduler).build()?;
    pool.map(work, [0; 16]).into_blocking_iter().for_each(drop);
    let durations = (0..96).map(|i| if i % 8 == 0 { 40 } else { 2 });
    let start = Instant::now();
    // A window as wide as the work there is room for: what is not yet placed can still be placed
    // well.
    let done = pool.map(work, durations).as_completed().window(8).into_blocking_iter();
    assert_eq!(done.filter(Result::is_ok).count(), 96);
    Ok(start.elapsed())
}

/// A build for debugging measures nothing worth knowing; it shows that the program works.
const ROUNDS: u32 = if cfg!(debug_assertions) { 1 } else { 5 };

/// The best of a few rounds: what else the machine does only ever makes it worse.
fn best(mut round: impl FnMut() -> aiopool::Result<Duration>) -> aiopool::Result<Duration> {
    (0..ROUNDS).map(|_| round()).reduce(|a, b| Ok(a?.min(b?))).unwrap_or(Ok(Duration::ZERO))
}

fn main() -> aiopool::Result<()> {
    let ideal = Duration::from_millis((12 * 40 + 84 * 2) / 2);
    let one = best(|| measure(1, RoundRobin::default()))?;
    let dealt = best(|| measure(2, RoundRobin::default()))?;
    let least = best(|| measure(2, LeastLoaded::default()))?;
    println!("1 queue                  {one:?}, ideal {ideal:?}");
    println!("2 queues, round robin    {dealt:?}");
    println!("2 queues, least loaded   {least:?}");
    Ok(())
}
