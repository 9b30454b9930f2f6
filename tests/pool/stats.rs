//! What a pool counts, and the page on which it publishes that.

use std::time::Duration;

use aiopool::{Pool, TaskOptions};
use aiopool_testing::{in_time, until};

async fn double(x: u64) -> u64 {
    x * 2
}

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

async fn sleep_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

async fn fail(_: u64) -> Result<u64, String> {
    Err("no".to_owned())
}

async fn panics(_: u64) -> u64 {
    panic!("no")
}

async fn die(_: u64) -> u64 {
    std::process::abort()
}

async fn block_for_ever(_: u64) -> u64 {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn every_outcome_is_counted_as_what_it_is() {
    let grace = Duration::from_millis(20);
    let pool = Pool::builder().processes(1).child_concurrency(2).grace(grace).build().unwrap();
    in_time(pool.map(double, 0..10)).await.unwrap();
    in_time(pool.try_apply(fail, 1)).await.unwrap_err();
    in_time(pool.apply(panics, 1)).await.unwrap_err();
    in_time(pool.apply(die, 1)).await.unwrap_err();
    let mut called_off = pool.apply(sleep_for_ever, 1);
    called_off.cancel();
    in_time(called_off).await.unwrap_err();
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_millis(500)));
    in_time(limited.apply(block_for_ever, 1)).await.unwrap_err();
    until(|| pool.stats().killed_for_deadline == 1).await;
    let held: Vec<_> = (0..5).map(|i| pool.apply(sleep_for_ever, i)).collect();
    until(|| pool.stats().running == 2).await;
    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.pending, stats.queued), (20, 5, 3), "{stats:?}");
    assert_eq!((stats.ok, stats.failed, stats.panicked), (10, 1, 1), "{stats:?}");
    assert_eq!((stats.worker_lost, stats.cancelled, stats.timed_out), (1, 1, 1), "{stats:?}");
    assert_eq!((stats.deaths, stats.killed_for_damage, stats.recycles), (2, 0, 0), "{stats:?}");
    pool.terminate();
    in_time(pool.join()).await.unwrap();
    drop(held);
    assert_eq!(pool.stats().pool_closed, 5);
}

#[tokio::test]
async fn histograms_are_kept_by_function() {
    let pool = Pool::builder().processes(1).child_concurrency(1).build().unwrap();
    in_time(pool.map(double, 0..10)).await.unwrap();
    let mut holder = pool.apply(sleep_for_ever, 0);
    let naps: Vec<_> = (0..3).map(|_| pool.apply(nap, 20)).collect();
    // All three wait from here on.
    holder.cancel();
    for task in naps {
        in_time(task).await.unwrap();
    }
    let stats = pool.stats();
    let of = |name: &str| {
        let found = stats.functions.iter().find(|function| function.name.ends_with(name));
        found.unwrap_or_else(|| panic!("{name} is not in {stats:?}"))
    };
    assert_eq!((of("double").ran.count(), of("double").waited.count()), (10, 10));
    let naps = of("nap");
    assert_eq!(naps.ran.count(), 3);
    assert!(naps.ran.sum() >= Duration::from_millis(60), "{naps:?}");
    assert!(naps.ran.quantile(0.0) >= Duration::from_millis(20), "{naps:?}");
    // They ran one after the other, so the last one waited for two.
    assert!(naps.waited.quantile(1.0) >= Duration::from_millis(40), "{naps:?}");
}

#[cfg(feature = "stats-page")]
mod page {
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use aiopool::{Error, observe};

    use super::*;

    fn name(of: &str) -> String {
        format!("test-{of}-{}", std::process::id())
    }

    fn file(name: &str) -> String {
        format!("/dev/shm/aiopool.{name}")
    }

    #[tokio::test]
    async fn others_read_what_the_pool_counts() {
        let name = name("read");
        let pool = Pool::builder().processes(2).stats_page(&name).build().unwrap();
        in_time(pool.map(double, 0..100)).await.unwrap();
        let held = pool.apply(sleep_for_ever, 1);
        let seen = || observe(&name).unwrap();
        until(|| seen().get("running") == Some(1)).await;
        let stats = seen();
        assert_eq!(stats.host_pid, std::process::id());
        assert_eq!((stats.get("submitted"), stats.get("ok")), (Some(101), Some(100)));
        assert_eq!((stats.get("workers"), stats.get("deaths")), (Some(2), Some(0)));
        assert_eq!((stats.ran.count(), stats.waited.count()), (100, 100));
        assert_eq!(stats.get("nonsense"), None);
        drop(held);
        // What came last is there, too, when nothing moves any more.
        until(|| seen().get("cancelled") == Some(1)).await;
        drop(pool);
        assert!(!Path::new(&file(&name)).exists());
        assert!(matches!(observe(&name), Err(Error::System { .. })));
    }

    #[tokio::test]
    async fn a_c_program_reads_the_page() {
        let name = name("c");
        let program = std::env::temp_dir().join(&name);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/ffi-examples/c/stats_page.c");
        let options = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-o"];
        let built = Command::new("cc").args(options).arg(&program).args([source, "-lrt"]).status();
        assert!(built.unwrap().success());
        let pool = Pool::builder().processes(1).stats_page(&name).build().unwrap();
        in_time(pool.map(double, 0..7)).await.unwrap();
        in_time(pool.try_apply(fail, 1)).await.unwrap_err();
        until(|| observe(&name).unwrap().get("failed") == Some(1)).await;
        let output = Command::new(&program).arg(&name).output().unwrap();
        std::fs::remove_file(&program).unwrap();
        let expected =
            format!("host {} submitted 8 queued 0 running 0 ok 7 failed 1\n", std::process::id());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_name_is_one_pools_at_a_time() {
        let name = name("taken");
        let build = || Pool::builder().processes(1).stats_page(&name).build();
        let pool = build().unwrap();
        let error = build().unwrap_err();
        assert!(error.to_string().contains("no pool has"), "{error}");
        assert_eq!(observe(&name).unwrap().host_pid, std::process::id());
        drop(pool);
        let again = build().unwrap();
        in_time(again.apply(double, 1)).await.unwrap();
        until(|| observe(&name).unwrap().get("ok") == Some(1)).await;
        for bad in ["", "a/b", "ä", &"x".repeat(65)] {
            let error = Pool::builder().processes(1).stats_page(bad).build().unwrap_err();
            assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
            assert!(matches!(observe(bad), Err(Error::InvalidOption { .. })));
        }
    }

    #[test]
    fn what_is_no_page_is_told_as_such() {
        let name = name("junk");
        std::fs::write(file(&name), "x".repeat(4096)).unwrap();
        let error = observe(&name).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
        // And no reason to refuse a pool.
        let pool = Pool::builder().processes(1).stats_page(&name).build().unwrap();
        assert_eq!(observe(&name).unwrap().host_pid, std::process::id());
        drop(pool);
    }

    /// Not a test by itself: the host that the next test kills.
    #[test]
    #[ignore = "run by the_page_goes_when_the_host_is_killed"]
    fn host_with_a_page() {
        let name = std::env::var("AIOPOOL_TEST_PAGE").unwrap();
        let pool = Pool::builder().processes(1).stats_page(name).build().unwrap();
        println!("\nREADY {}", pool.apply(double, 21).wait().unwrap());
        std::thread::sleep(Duration::from_secs(600));
    }

    #[tokio::test]
    async fn the_page_goes_when_the_host_is_killed() {
        let name = name("killed");
        let mut host = Command::new(std::env::current_exe().unwrap())
            .args(["stats::page::host_with_a_page", "--exact", "--ignored", "--nocapture"])
            .env("AIOPOOL_TEST_PAGE", &name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(host.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "READY 42"));
        assert_eq!(observe(&name).unwrap().host_pid, host.id());
        host.kill().unwrap();
        host.wait().unwrap();
        until(|| !Path::new(&file(&name)).exists()).await;
    }
}

/// Dies at its first attempt only.
async fn die_at_first(_: u64) -> u32 {
    let attempt = aiopool::TaskContext::current().map_or(1, |task| task.attempt());
    if attempt == 1 {
        std::process::abort();
    }
    attempt
}

#[tokio::test]
async fn a_death_is_counted_before_anybody_learns_of_its_tasks() {
    let pool = Pool::builder().processes(2).build().unwrap();
    for deaths in 1..=60 {
        let again = pool.with(TaskOptions::new().retries(1));
        assert_eq!(in_time(again.apply(die_at_first, 0)).await.unwrap(), 2);
        assert_eq!(pool.stats().deaths, deaths);
    }
}

#[test]
fn a_task_is_pending_until_its_outcome_is_counted() {
    let pool = Pool::builder().processes(2).build().unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for x in 0..20_000 {
                    assert_eq!(pool.apply(double, x).wait().unwrap(), 2 * x);
                }
                is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            });
        }
        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
            let stats = pool.stats();
            assert_eq!(stats.submitted, stats.pending + stats.outcomes(), "{stats:?}");
            assert_eq!(stats.pending, stats.queued + stats.running, "{stats:?}");
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.pending, stats.outcomes()), (40_000, 0, 40_000));
}
