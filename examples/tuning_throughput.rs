//! Tuning, 3 of 5: very many small tasks. Advice: submit with `map`, and give it a large window;
//! leave `queues` at 1 unless there are many processes.
//!
//! Awaiting each task before the next costs a wake-up on both sides; a `map` keeps the rings full.
//! More queues only pay where very many workers contend for one ring.

use std::time::Instant;

use aiopool::Pool;

async fn double(x: u64) -> u64 {
    x * 2
}

fn main() -> aiopool::Result<()> {
    const TASKS: u64 = 100_000;
    let processors = std::thread::available_parallelism().map_or(1, usize::from).max(2);
    for queues in [1, processors] {
        let pool = Pool::builder().processes(processors).queues(queues).build()?;
        let rate = |tasks: u64, start: Instant| tasks as f64 / start.elapsed().as_secs_f64();
        let start = Instant::now();
        for x in 0..1000 {
            assert_eq!(pool.apply(double, x).wait().ok(), Some(2 * x));
        }
        println!("{queues} queues, one at a time: {:.0} tasks/s", rate(1000, start));
        for window in [64, 2048] {
            let start = Instant::now();
            let done = pool.map(double, 0..TASKS).window(window).into_blocking_iter();
            assert_eq!(done.filter(Result::is_ok).count() as u64, TASKS);
            println!("{queues} queues, map of {window:>4}: {:.0} tasks/s", rate(TASKS, start));
        }
    }
    Ok(())
}
