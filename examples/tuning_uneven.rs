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

fn measure(name: &str, queues: usize, scheduler: impl Scheduler) -> aiopool::Result<()> {
    let pool = Pool::builder().processes(2).queues(queues).scheduler(scheduler).build()?;
    pool.map(work, [0; 16]).into_blocking_iter().for_each(drop);
    let durations = (0..96).map(|i| if i % 8 == 0 { 40 } else { 2 });
    let total: u64 = durations.clone().sum();
    let start = Instant::now();
    // A window as wide as the work there is room for: what is not yet placed can still be placed
    // well.
    let done = pool.map(work, durations).as_completed().window(8).into_blocking_iter();
    assert_eq!(done.filter(Result::is_ok).count(), 96);
    let ideal = Duration::from_millis(total / 2);
    println!("{name:<24} {:?}, at best {ideal:?}", start.elapsed());
    Ok(())
}

fn main() -> aiopool::Result<()> {
    measure("1 queue", 1, RoundRobin::default())?;
    measure("2 queues, round robin", 2, RoundRobin::default())?;
    measure("2 queues, least loaded", 2, LeastLoaded::default())
}
