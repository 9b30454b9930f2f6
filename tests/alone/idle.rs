//! A pool with nothing to do does nothing: no processor time, no wake-up, no timer.
//!
//! One test, so that nothing else runs in this process while it is watched.
#![allow(unsafe_code)] // the clock of the process

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use aiopool::Pool;

const WATCHDOG: Duration = Duration::from_secs(60);

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

/// How often a thread has gone to sleep, as the kernel counts.
fn sleeps(thread: &Path) -> u64 {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

/// For each thread that has a part in the pool, how often it has gone to sleep; with its name.
fn threads(pool: &Pool) -> BTreeMap<(u32, String), u64> {
    let here = std::process::id();
    let zygote = |worker: u32| {
        let stat = fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    let workers = pool.worker_pids();
    assert_eq!(workers.len(), 4);
    let pids = workers.iter().copied().chain([here, zygote(workers[0])]);
    let tasks = pids.flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).unwrap());
    let tasks = tasks.map(|task| task.unwrap().path());
    tasks
        .map(|task| {
            let name = fs::read_to_string(task.join("comm")).unwrap().trim().to_owned();
            let id = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
            ((id, name), sleeps(&task))
        })
        // The test's own threads: the one that reads this, and the harness that waits for it.
        .filter(|((id, name), _)| name.starts_with("aiopool") || workers.contains(id))
        .collect()
}

/// Processor time of all threads of this process, exact: `schedstat` lacks what a running thread has
/// used since the last tick of the kernel's clock, which would count as used while it slept.
fn host_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is written by the call.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(answer, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn assert_idle(pool: &Pool, after: &str) {
    // What was going on may take a moment to end; what goes on for ever does not end.
    let started = Instant::now();
    let mut before = threads(pool);
    loop {
        thread::sleep(Duration::from_millis(300));
        let now = threads(pool);
        if now == before {
            break;
        }
        assert!(started.elapsed() < WATCHDOG, "after {after}, somebody wakes up again and again");
        before = now;
    }
    assert_eq!(before.len(), 6, "four workers, the zygote, the supervisor: {before:?}");
    let (workers_cpu, host_before) = (pool.stats().cpu, host_cpu());
    thread::sleep(Duration::from_secs(2));
    // Before the pool's numbers are read, which takes processor time in this thread.
    let host_used = host_cpu() - host_before;
    let workers_cpu = pool.stats().cpu - workers_cpu;
    assert_eq!(threads(pool), before, "after {after}, nobody goes to sleep who did not wake up");
    assert!(workers_cpu < Duration::from_millis(1), "after {after}, workers used {workers_cpu:?}");
    assert!(host_used < Duration::from_millis(10), "after {after}, the host used {host_used:?}");
}

#[test]
fn an_idle_pool_uses_no_processor_and_no_timer() {
    let _alone = crate::one_at_a_time();
    // Anybody's dashboard asks all pools of this user, and what is asked is not idle.
    let pool = Pool::builder().processes(4).queues(2).observable(false).build().unwrap();
    assert_idle(&pool, "the start");
    assert_eq!(pool.map(nap, 0..40).into_blocking_iter().filter(Result::is_ok).count(), 40);
    assert_idle(&pool, "blocking calls");
    // The runtime stays, and with it whatever the pool has spawned there.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let naps = runtime.block_on(async { pool.map(nap, 0..40).await.unwrap() });
    assert_eq!(naps.len(), 40);
    runtime.block_on(async { drop(pool.apply(nap, 60_000)) });
    assert_idle(&pool, "a task that was called off in a runtime");
}
