//! The processor time that a pool reports is that of all its workers, the dead ones included.

use std::time::{Duration, Instant};

use aiopool::Pool;

const BURN: Duration = Duration::from_millis(150);

/// Uses about as much processor time as there was to be had in `BURN`, and says how much.
async fn burn(_: u64) -> Duration {
    let used = || {
        let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
        Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
    };
    let (before, until) = (used(), Instant::now() + BURN);
    while Instant::now() < until || used() - before < Duration::from_millis(20) {
        std::hint::black_box(0);
    }
    used() - before
}

async fn burn_and_die(x: u64) {
    burn(x).await;
    std::process::abort();
}

#[test]
fn cpu_time_of_living_recycled_and_killed_workers_counts() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(1).max_tasks_per_child(1).build().unwrap();
    let burnt = pool.apply(burn, 1).wait().unwrap();
    // The second task waits for the second worker; the first may still be leaving.
    let burnt = burnt + pool.apply(burn, 2).wait().unwrap();
    assert!(pool.apply(burn_and_die, 3).wait().is_err());
    // At least what is certain of the one that died.
    let burnt = burnt + Duration::from_millis(20);
    pool.close();
    pool.join_blocking().unwrap();
    let stats = pool.stats();
    assert_eq!((stats.deaths, stats.workers), (1, 0));
    assert!(stats.cpu >= burnt, "{:?} of at least {burnt:?}", stats.cpu);
}
