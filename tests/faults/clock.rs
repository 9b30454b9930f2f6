//! The time of day jumps by years, in the host, the zygote and the workers, and changes nothing.
//!
//! This program has a `clock_gettime` of its own, which std, tokio and aiopool call in place of
//! the C library's. Every second look at the time of day is years away from the one before.
#![allow(unsafe_code)] // stands in for the C library's function

use std::time::Duration;

use crate::rig::{alone, double, kill, nap, pid, works};
use aiopool::{Pool, TaskError, TaskOptions};
use aiopool_testing::clock::{self, jumps};

/// # Safety
///
/// `time` is NULL or can be written, as for the function it stands in for.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    // SAFETY: passed on.
    unsafe { clock::gettime(clock, time, || true) }
}

#[test]
fn the_time_of_day_jumps() {
    alone("the_time_of_day_jumps", || {
        assert!(aiopool::block_on(jumps(0)), "the clock does not jump in the host");
        let grace = Duration::from_secs(60);
        let pool = Pool::builder().processes(2).grace(grace).build().unwrap();
        assert!(pool.apply(jumps, 0).wait().unwrap(), "the clock does not jump in workers");
        let far = TaskOptions::new().timeout(Duration::from_secs(3600));
        let near = TaskOptions::new().timeout(Duration::from_millis(100));
        let soon = TaskOptions::new().queue_ttl(Duration::from_secs(3600));
        for round in 0..5 {
            let timed: Vec<_> = (0..20).map(|ms| pool.with(far).apply(nap, ms)).collect();
            let waiting: Vec<_> = (0..50).map(|x| pool.with(soon).apply(double, x)).collect();
            let late = pool.with(near).apply(nap, 3_600_000);
            for (ms, task) in timed.into_iter().enumerate() {
                assert_eq!(task.wait().unwrap(), ms as u64);
            }
            for (x, task) in waiting.into_iter().enumerate() {
                assert_eq!(task.wait().unwrap(), 2 * x as u64);
            }
            let late = late.wait();
            assert!(matches!(late, Err(TaskError::TimedOut { started: true, .. })), "{late:?}");
            let again = TaskOptions::new().retries(9).backoff(Duration::from_millis(5));
            if round % 2 == 0 {
                kill(pool.with(again).apply(pid, 0).wait().unwrap(), libc::SIGKILL);
            }
            assert_eq!(pool.with(again).apply(nap, 10).wait().unwrap(), 10);
            works(&pool);
        }
        assert!(pool.drain_blocking(Duration::from_secs(60)));
    });
}
