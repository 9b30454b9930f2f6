//! Nothing waits for the wrong thing, or without a word.

use std::time::Duration;

use aiopool::{Pool, StartMethod};

/// Far longer than any of these tests takes on a loaded machine, and shorter than what they must
/// not wait for.
const WATCHDOG: Duration = Duration::from_secs(60);
const FOR_EVER: Duration = Duration::from_secs(100_000);

async fn slow_then_wrong(item: u32) -> Result<u32, String> {
    match item {
        0 => tokio::time::sleep(FOR_EVER).await,
        1 => return Err("bad item".into()),
        _ => {}
    }
    Ok(item)
}

async fn same(x: u32) -> u32 {
    x
}

#[tokio::test]
async fn a_map_awaited_whole_fails_at_the_first_error_and_calls_the_rest_off() {
    let pool = Pool::builder().processes(1).child_concurrency(2).build().unwrap();
    for items in [2_u32, 3, 200] {
        let map = async { pool.try_map(slow_then_wrong, 0..items).await };
        let error = tokio::time::timeout(WATCHDOG, map).await.expect("it waits for item 0");
        assert_eq!(error.unwrap_err().to_string(), "bad item");
    }
    // Item 0 would hold the pool's end up.
    let joined = async {
        pool.close();
        pool.join().await
    };
    tokio::time::timeout(WATCHDOG, joined).await.expect("item 0 was not called off").unwrap();
}

/// A value that the host cannot read if it is 1.
#[derive(Debug, serde::Serialize)]
struct Picky(u32);

impl<'de> serde::Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        match u32::deserialize(source)? {
            1 => Err(serde::de::Error::custom("nobody reads a 1")),
            other => Ok(Self(other)),
        }
    }
}

async fn slow_then_unreadable(item: u32) -> Picky {
    if item == 0 {
        tokio::time::sleep(FOR_EVER).await;
    }
    Picky(item)
}

#[tokio::test]
async fn a_value_that_cannot_be_read_ends_a_map_at_once_as_other_errors_do() {
    let pool = Pool::builder().processes(1).child_concurrency(2).build().unwrap();
    let map = async { pool.map(slow_then_unreadable, 0..3).await };
    let error = tokio::time::timeout(WATCHDOG, map).await.expect("it waits for item 0");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("nobody reads a 1"), "{error}");
}

/// A value whose reading panics if it is 1.
#[derive(Debug, serde::Serialize)]
struct Explosive(u32);

impl<'de> serde::Deserialize<'de> for Explosive {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(source)?;
        assert_ne!(number, 1, "nobody reads a 1");
        Ok(Self(number))
    }
}

/// Gives its argument so late that the caller has gone to sleep.
async fn late(item: u32) -> Explosive {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Explosive(item)
}

#[test]
fn a_value_whose_reading_panics_holds_up_no_other_wait() {
    let pool = Pool::builder().processes(1).build().unwrap();
    let (done, all) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for item in [1, 2, 1, 3] {
            let wait = || pool.apply(late, item).wait().unwrap().0;
            let value = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait));
            done.send(value.ok()).unwrap();
        }
    });
    // The caller that panicked was the one that sleeps on the doorbell for all.
    for expected in [None, Some(2), None, Some(3)] {
        let value = all.recv_timeout(WATCHDOG).expect("a wait that nothing ends");
        assert_eq!(value, expected);
    }
}

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

#[tokio::test]
async fn the_values_of_a_map_are_in_the_order_of_its_items_whenever_they_come() {
    let pool = Pool::builder().processes(2).child_concurrency(8).build().unwrap();
    let items: Vec<u64> = (0..300).map(|n| n * 7919 % 23).collect();
    for window in [1, 2, 7, 1000] {
        let values = pool.map(nap, items.clone()).window(window).await.unwrap();
        assert_eq!(values, items, "{window}");
    }
    assert!(pool.map(nap, []).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_future_of_a_map_that_failed_calls_the_rest_off_though_it_is_kept() {
    let pool = Pool::builder().processes(1).child_concurrency(2).build().unwrap();
    let mut map = pool.try_map(slow_then_wrong, 0..3_u32).into_future();
    (&mut map).await.unwrap_err();
    pool.close();
    tokio::time::timeout(WATCHDOG, pool.join()).await.expect("item 0 was not called off").unwrap();
    drop(map);
}

#[tokio::test]
async fn a_stream_in_order_stays_in_order() {
    let pool = Pool::builder().processes(1).child_concurrency(2).build().unwrap();
    async fn late_then_wrong(item: u32) -> Result<u32, String> {
        match item {
            0 => tokio::time::sleep(Duration::from_millis(100)).await,
            1 => return Err("bad item".into()),
            _ => {}
        }
        Ok(item)
    }
    let mut map = pool.try_map(late_then_wrong, 0..3_u32);
    assert_eq!(map.next().await.unwrap().unwrap(), 0);
    assert!(map.next().await.unwrap().is_err());
    assert_eq!(map.next().await.unwrap().unwrap(), 2);
    assert!(map.next().await.is_none());
    let results = pool.try_map(late_then_wrong, 0..3_u32).results().await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
}

async fn never(_: ()) -> Result<(), String> {
    std::future::pending::<()>().await;
    Ok(())
}

fn hangs(_: ()) -> impl Future<Output = Result<(), String>> {
    std::thread::sleep(FOR_EVER);
    std::future::ready(Ok(()))
}

/// What a task of a pool with this start says.
fn refusal(pool: aiopool::PoolBuilder) -> String {
    let limit = Duration::from_millis(300);
    let pool = pool.processes(2).start_timeout(limit).build().unwrap();
    let outcome = pool.apply(same, 1).wait_timeout(WATCHDOG).expect("the start has no limit");
    outcome.unwrap_err().to_string()
}

#[test]
fn an_initializer_that_never_ends_is_an_error_that_names_it_and_the_time() {
    let refused = refusal(Pool::builder().initializer(never, ()));
    for needle in ["wait::never", "has not returned", "300ms", "start_timeout", "pid "] {
        assert!(refused.contains(needle), "{needle:?} is not in {refused}");
    }
    let refused = refusal(Pool::builder().initializer(hangs, ()));
    assert!(refused.contains("wait::hangs"), "{refused}");
}

#[test]
fn a_command_that_never_attaches_is_an_error_that_names_it() {
    let sleep = StartMethod::Command(vec!["/bin/sleep".into(), "100000".into()]);
    let refused = refusal(Pool::builder().start_method(sleep));
    for needle in ["/bin/sleep", "has not attached", "300ms"] {
        assert!(refused.contains(needle), "{needle:?} is not in {refused}");
    }
}

/// Hangs in the worker that takes the token, and in no other.
async fn hangs_once(token: String) -> Result<(), String> {
    if std::fs::remove_file(token).is_ok() {
        std::future::pending::<()>().await;
    }
    Ok(())
}

#[test]
fn a_start_that_hangs_once_costs_that_worker() {
    let token = std::env::temp_dir().join(format!("aiopool-token-{}", std::process::id()));
    std::fs::write(&token, "").unwrap();
    let pool = Pool::builder()
        .processes(2)
        .start_timeout(Duration::from_secs(3))
        .initializer(hangs_once, token.to_str().unwrap().to_owned())
        .build()
        .unwrap();
    for x in 0..20 {
        assert_eq!(pool.apply(same, x).wait().unwrap(), x);
    }
    let end = std::time::Instant::now() + WATCHDOG;
    while pool.stats().deaths == 0 {
        assert!(std::time::Instant::now() < end, "the worker that hangs is left alone");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(pool.apply(same, 7).wait().unwrap(), 7);
}

/// The worker's process id, after a nap.
async fn pid_after(ms: u64) -> u32 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    std::process::id()
}

#[tokio::test]
async fn a_seat_has_two_processes_at_most_and_a_task_waits_for_no_more_than_one_of_them() {
    let pool =
        Pool::builder().processes(1).child_concurrency(2).max_tasks_per_child(2).build().unwrap();
    for _ in 0..3 {
        // Two workers retire, each with a long task and a longer one.
        let long: Vec<_> = [300, 600, 300, 600].map(|ms| pool.apply(pid_after, ms)).into();
        let mut short = Box::pin(pool.apply(pid_after, 0));
        let mut seen = 0;
        let pid = loop {
            let pids = pool.worker_pids();
            assert!(pids.len() <= 2, "{pids:?}");
            seen = seen.max(pids.len());
            let pid = tokio::time::timeout(Duration::from_millis(5), &mut short).await;
            if let Ok(pid) = pid {
                break pid.unwrap();
            }
        };
        assert_eq!(seen, 2, "a seat has a place for the worker that comes next");
        let mut pids = Vec::new();
        for task in long {
            pids.push(task.await.unwrap());
        }
        assert!(!pids.contains(&pid), "a worker has had more tasks than it may");
        // Whole again for the next round.
        pool.apply(pid_after, 0).await.unwrap();
    }
}

async fn leave_soon(_: ()) -> Result<(), String> {
    // Whatever closes the process's descriptors, or crashes beside its loop, does this.
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(5));
        std::process::exit(3)
    });
    Ok(())
}

#[tokio::test]
async fn workers_that_die_before_they_have_begun_a_task_are_not_made_for_ever() {
    let pool = Pool::builder().processes(2).initializer(leave_soon, ()).build().unwrap();
    let ended = async {
        loop {
            match pool.ready().await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => break error.to_string(),
            }
        }
    };
    let error = tokio::time::timeout(WATCHDOG, ended).await.expect("it makes one after the other");
    assert!(error.contains("before it took a task, the last one exited with status 3"), "{error}");
}
