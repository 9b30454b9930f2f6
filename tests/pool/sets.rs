//! Tasks that are waited for together, tasks of several values, and tasks on every worker.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use aiopool::{Error, Part, Pool, TaskError, TaskOptions, WorkerContext};
use aiopool_testing::{in_time, until};

async fn double(x: u64) -> u64 {
    x * 2
}

async fn fail(text: String) -> Result<u64, String> {
    Err(text)
}

async fn wait_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

async fn seat(_: u64) -> (u32, u32) {
    (WorkerContext::current().unwrap().worker_id(), std::process::id())
}

fn two_workers() -> Pool {
    Pool::builder().processes(2).capacity(16).build().unwrap()
}

#[tokio::test]
async fn a_set_gives_every_result_with_its_number_however_small_the_pool_is() {
    let pool = two_workers();
    let mut tasks = pool.apply_many(double, 0..500);
    assert_eq!(tasks.try_apply(fail, "no".into()), 500);
    assert_eq!((tasks.len(), tasks.is_empty()), (501, false));
    let mut seen = HashSet::new();
    while let Some((number, result)) = in_time(tasks.join_next()).await {
        assert!(seen.insert(number), "{number} came twice");
        match result {
            Ok(value) => assert_eq!(value, 2 * number as u64),
            Err(error) => assert_eq!((number, error.to_string().as_str()), (500, "no")),
        }
    }
    assert_eq!((seen.len(), tasks.len()), (501, 0));
    // A set can be used again.
    tasks.apply(double, 4);
    assert_eq!(
        in_time(tasks.join_next()).await.map(|(number, r)| (number, r.unwrap())),
        Some((501, 8))
    );
    let all = in_time(pool.apply_many(double, 0..100).join_all()).await;
    assert!(all.into_iter().map(Result::unwrap).eq((0..100).map(|x| 2 * x)));
}

#[test]
fn a_set_serves_code_that_is_not_async() {
    let pool = two_workers();
    let mut tasks = pool.apply_many(double, 0..100);
    let mut sum = 0;
    while let Some((_, result)) = tasks.join_next_blocking() {
        sum += result.unwrap();
    }
    assert_eq!(sum, 2 * (0..100).sum::<u64>());
}

#[tokio::test]
async fn a_set_cancels_what_is_not_over() {
    let pool = two_workers();
    let mut tasks = pool.apply_many(wait_for_ever, 0..40);
    until(|| pool.stats().running > 0).await;
    tasks.abort_all();
    let results = in_time(tasks.join_all()).await;
    assert_eq!(results.len(), 40);
    assert!(results.iter().all(|result| matches!(result, Err(TaskError::Cancelled))));
    let mut dropped = pool.apply_many(wait_for_ever, 0..40);
    // Waiting for results is what submits the tasks that found no room.
    let none = tokio::time::timeout(Duration::from_millis(50), dropped.join_next()).await;
    assert!(none.is_err());
    until(|| pool.stats().running > 0).await;
    drop(dropped);
    until(|| pool.stats().pending == 0).await;
    // Nothing of it is left: the pool has room for as much as before.
    let all = in_time(pool.apply_many(double, 0..64).join_all()).await;
    assert!(all.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_set_of_a_closed_pool_gives_errors_and_ends() {
    let pool = two_workers();
    pool.close();
    let results = in_time(pool.apply_many(double, 0..3).join_all()).await;
    assert!(results.iter().all(|result| matches!(result, Err(TaskError::PoolClosed { .. }))));
    assert_eq!(results.len(), 3);
}

#[tokio::test]
async fn a_flat_map_gives_each_value_of_each_task_and_an_error_in_its_place() {
    async fn up_to(n: u64) -> Result<Vec<u64>, String> {
        if n == 3 { Err("three".into()) } else { Ok((0..n).collect()) }
    }
    let pool = two_workers();
    let mut values = pool.try_map_flat(up_to, 0..5).window(2);
    let mut seen = Vec::new();
    while let Some(value) = in_time(values.next()).await {
        seen.push(value.map_err(|error| error.to_string()));
    }
    let three = vec![Err("three".to_owned())];
    let ok = |n: u64| (0..n).map(Ok).collect::<Vec<_>>();
    assert_eq!(seen, [ok(1), ok(2), three, ok(4)].concat());
    // An endless iterator, of which most items yield nothing.
    async fn every_hundredth(n: u64) -> Option<u64> {
        n.is_multiple_of(100).then_some(n)
    }
    let some = pool.map_flat(every_hundredth, 0..).into_blocking_iter().take(5);
    let some: Vec<u64> =
        tokio::task::spawn_blocking(|| some.map(Result::unwrap).collect()).await.unwrap();
    assert_eq!(some, [0, 100, 200, 300, 400]);
}

#[tokio::test]
async fn a_broadcast_runs_once_on_every_worker_beside_what_it_has() {
    let pool = Pool::builder().processes(3).queues(2).child_concurrency(2).build().unwrap();
    in_time(pool.ready()).await.unwrap();
    let _busy: Vec<_> = (0..6).map(|n| pool.apply(wait_for_ever, n)).collect();
    let queued = pool.apply_many(wait_for_ever, 0..20);
    until(|| pool.stats().running == 6).await;
    // A worker has no place left: it comes round to it when it has one.
    let broadcast = pool.broadcast(seat, 0);
    drop((queued, _busy));
    let seats = in_time(broadcast).await;
    let seats: Vec<(u32, u32)> = seats.into_iter().map(Result::unwrap).collect();
    assert_eq!(seats.iter().map(|(seat, _)| *seat).collect::<Vec<_>>(), [0, 1, 2]);
    let pids: HashSet<u32> = seats.iter().map(|(_, pid)| *pid).collect();
    assert_eq!(pids, pool.worker_pids().into_iter().collect());
    let all = in_time(pool.apply_many(double, 0..100).join_all()).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(pool.stats().pending, 0);
}

#[tokio::test]
async fn broadcasts_come_as_often_as_they_are_sent_and_keep_no_records() {
    let pool = Pool::builder().processes(2).capacity(16).build().unwrap();
    for round in 0..100 {
        let seats = in_time(pool.broadcast(seat, round)).await;
        assert!(seats.iter().all(Result::is_ok), "{seats:?}");
    }
    let many: Vec<_> = (0..30).map(|round| pool.broadcast(seat, round)).collect();
    for seats in many {
        let seats = in_time(seats).await;
        assert!(seats.iter().all(Result::is_ok), "{seats:?}");
    }
    assert_eq!(pool.stats().free_records, 16);
}

#[tokio::test]
async fn a_broadcast_that_was_accepted_before_the_pool_was_closed_is_finished() {
    let build = || Pool::builder().processes(2).queues(2).child_concurrency(1).capacity(16);
    for round in 0..20 {
        // At once, when no worker is there yet, or with every record taken.
        let pool = build().build().unwrap();
        let tasks = if round % 2 == 0 { 0 } else { 32 };
        let busy = pool.apply_many(double, 0..tasks);
        let broadcast = pool.broadcast(seat, round);
        pool.close();
        let seats = in_time(broadcast).await;
        assert!(seats.iter().all(Result::is_ok), "{round}: {seats:?}");
        assert!(in_time(busy.join_all()).await.iter().all(Result::is_ok));
        in_time(pool.join()).await.unwrap();
    }
    let pool = build().build().unwrap();
    let broadcast = pool.broadcast(seat, 0);
    assert!(in_time(pool.drain(Duration::MAX)).await);
    assert!(in_time(broadcast).await.iter().all(Result::is_ok));
    // What is terminated ends it, whether a worker has it or not.
    let pool = build().build().unwrap();
    let busy: Vec<_> = (0..2).map(|n| pool.apply(wait_for_ever, n)).collect();
    let broadcast = pool.broadcast(seat, 0);
    pool.close();
    pool.terminate();
    let ended = in_time(broadcast).await;
    assert_eq!(ended.len(), 2);
    in_time(pool.join()).await.unwrap();
    drop(busy);
}

#[tokio::test]
async fn a_broadcast_that_kills_workers_says_so_and_is_not_run_twice() {
    async fn die(_: u64) -> u64 {
        std::process::abort()
    }
    let pool = two_workers();
    let before = pool.worker_pids();
    let results = in_time(pool.with(TaskOptions::new().retries(3)).broadcast(die, 0)).await;
    assert!(results.iter().all(|r| r.as_ref().unwrap_err().worker_lost().is_some()), "{results:?}");
    let seats = in_time(pool.broadcast(seat, 0)).await;
    assert!(seats.iter().flatten().all(|(_, pid)| !before.contains(pid)), "{seats:?}");
    assert_eq!(pool.stats().deaths, 2);
    let refused = in_time(pool.try_broadcast(fail, "no".into())).await;
    assert!(refused.iter().all(|result| matches!(result, Err(TaskError::Failed(_)))));
    pool.close();
    let closed = in_time(pool.broadcast(seat, 0)).await;
    assert!(closed.iter().all(|result| matches!(result, Err(TaskError::PoolClosed { .. }))));
}

#[tokio::test]
async fn a_broadcast_reaches_workers_that_are_being_replaced() {
    let pool = Pool::builder().processes(2).max_tasks_per_child(3).build().unwrap();
    for round in 0..20 {
        let work = pool.map(double, 0..20);
        let (results, seats) =
            tokio::join!(in_time(work.results()), in_time(pool.broadcast(seat, round)));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(seats.len(), 2);
        assert!(seats.iter().all(Result::is_ok), "{seats:?}");
    }
}

#[tokio::test]
async fn ready_waits_for_the_initializers_and_says_what_they_failed_with() {
    async fn slow(ms: u64) -> Result<(), String> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        if ms == 77 { Err("no model".into()) } else { Ok(()) }
    }
    let pool = Pool::builder().processes(2).initializer(slow, 100).build().unwrap();
    in_time(pool.ready()).await.unwrap();
    pool.ready_blocking().unwrap();
    pool.close();
    assert!(matches!(pool.ready().await, Err(Error::Closed)));
    let pool = Pool::builder().processes(2).initializer(slow, 77).build().unwrap();
    let error = in_time(pool.ready()).await.unwrap_err();
    assert!(error.to_string().contains("no model"), "{error}");
}

#[tokio::test]
async fn a_wait_that_was_given_up_leaves_nothing_behind() {
    struct Kept;
    impl Wake for Kept {
        fn wake(self: Arc<Self>) {}
    }
    async fn slow(_: ()) -> Result<(), String> {
        std::future::pending().await
    }
    let pool = Pool::builder().processes(1).initializer(slow, ()).build().unwrap();
    let never = pool.apply(double, 1);
    let kept = Arc::new(Kept);
    let give_up = |wait: &dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), Error>>>>| {
        let waker = Waker::from(Arc::clone(&kept));
        for _ in 0..10 {
            let (mut first, mut second) = (wait(), wait());
            for _ in 0..2 {
                for wait in [&mut first, &mut second] {
                    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                }
            }
            assert_eq!(Arc::strong_count(&kept), 4, "one for each wait");
        }
        drop(waker);
        assert_eq!(Arc::strong_count(&kept), 1);
    };
    give_up(&|| {
        let pool = pool.clone();
        Box::pin(async move { pool.ready().await })
    });
    pool.close();
    give_up(&|| {
        let pool = pool.clone();
        Box::pin(async move { pool.join().await })
    });
    drop(never);
    pool.terminate();
    in_time(pool.join()).await.unwrap();
}

/// One input in a hundred crashes its worker, with fifteen others in flight there.
async fn crash_at_times(x: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(2)).await;
    if x % 100 == 99 {
        std::process::abort();
    }
    x
}

async fn lost_beside_ten_crashes(pool: &Pool, options: TaskOptions) -> usize {
    let results = in_time(pool.with(options).map(crash_at_times, 0..1000).results()).await;
    let lost = results.iter().filter(|result| result.is_err()).count();
    let bystanders = results.iter().flat_map(|r| r.as_ref().err()).filter(|e| e.is_bystander());
    assert_eq!(lost - bystanders.count(), 10, "each crash has one suspect");
    lost - 10
}

#[tokio::test]
async fn what_a_crash_costs_its_neighbours_is_the_callers_choice() {
    let pool = Pool::builder().processes(2).build().unwrap();
    let by_default = lost_beside_ten_crashes(&pool, TaskOptions::new()).await;
    assert!((1..=150).contains(&by_default), "{by_default}");
    assert_eq!(lost_beside_ten_crashes(&pool, TaskOptions::new().alone(true)).await, 0);
    let single = Pool::builder().processes(2).child_concurrency(1).build().unwrap();
    assert_eq!(lost_beside_ten_crashes(&single, TaskOptions::new()).await, 0);
    // Longer than the distance of two crashes: the function never proves itself.
    let careful = Pool::builder().processes(2).probation(1000).build().unwrap();
    assert_eq!(lost_beside_ten_crashes(&careful, TaskOptions::new()).await, 0);
    println!("beside 10 crashes in 1,000 inputs: {by_default} neighbours are lost by default");
}

#[tokio::test]
async fn a_function_that_has_proved_itself_runs_beside_others() {
    /// The most that were in flight in this worker at once.
    async fn crowd(_: u64) -> u32 {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
        static NOW: AtomicU32 = AtomicU32::new(0);
        let now = NOW.fetch_add(1, Relaxed) + 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        NOW.fetch_sub(1, Relaxed);
        now
    }
    let pool = Pool::builder().processes(1).probation(8).build().unwrap();
    let first = in_time(pool.map(crowd, 0..8)).await.unwrap();
    assert_eq!(first, [1; 8], "a new function runs alone");
    let later = in_time(pool.map(crowd, 0..64)).await.unwrap();
    assert!(later.iter().any(|&crowd| crowd > 1), "{later:?}");
}

/// The numbers from `at` below `end`, two at a time; dies once on its way if `dies` names a file.
async fn counted((at, end, dies): (u64, u64, String)) -> Part<u64, (u64, u64, String)> {
    if at == 10 && !dies.is_empty() && std::fs::remove_file(&dies).is_ok() {
        std::process::abort();
    }
    let there = (at + 2).min(end);
    let values = (at..there).collect();
    if there == end { Part::last(values) } else { Part::more(values, (there, end, dies)) }
}

#[tokio::test]
async fn the_parts_of_an_item_come_in_order_and_a_death_costs_no_value() {
    let pool = two_workers();
    let mark = std::env::temp_dir().join(format!("aiopool-parts-{}", std::process::id()));
    std::fs::write(&mark, "").unwrap();
    let dies = mark.display().to_string();
    let again = TaskOptions::new().retries(3);
    let items = [(0, 100, dies), (1000, 1000, String::new()), (2000, 2007, String::new())];
    let mut values = pool.with(again).map_parts(counted, items);
    let (mut low, mut high) = (Vec::new(), Vec::new());
    while let Some(value) = in_time(values.next()).await {
        let value = value.unwrap();
        if value < 1000 { low.push(value) } else { high.push(value) }
    }
    assert!(low.into_iter().eq(0..100) && high.into_iter().eq(2000..2007));
    assert!(!mark.exists() && pool.stats().deaths >= 1, "it died once");
    assert!(in_time(values.next()).await.is_none());
}

#[test]
fn endless_parts_of_endless_items_take_constant_memory() {
    let pool = two_workers();
    let taken = std::cell::Cell::new(0_u64);
    let items = (0_u64..).map(|i| {
        taken.set(taken.get() + 1);
        (i << 32, u64::MAX, String::new())
    });
    let values = pool.map_parts(counted, items).window(3).into_blocking_iter().take(3_000);
    let mut next = std::collections::BTreeMap::new();
    for value in values.map(Result::unwrap) {
        let expected = next.entry(value >> 32).or_insert(value >> 32 << 32);
        assert_eq!(*expected, value, "the values of an item are in order");
        *expected += 1;
    }
    assert_eq!(taken.get(), 3, "an item is begun when another one has ended");
    assert!(pool.stats().submitted < 2_000, "{}", pool.stats().submitted);
}

async fn two_and_an_error((at, fails): (u64, bool)) -> Result<Part<u64, (u64, bool)>, String> {
    match at {
        2 if fails => Err("on purpose".to_owned()),
        3 => Ok(Part::last(vec![at])),
        _ => Ok(Part::more(vec![at], (at + 1, fails))),
    }
}

#[test]
fn an_item_that_fails_ends_with_its_error_and_the_others_go_on() {
    let pool = two_workers();
    let items = [(0, true), (0, false)];
    let mut values: Vec<_> = pool
        .try_map_parts(two_and_an_error, items)
        .into_blocking_iter()
        .map(|value| value.map_err(|error| error.to_string()))
        .collect();
    values.sort();
    let ok = |x| Ok(x);
    let error = Err("on purpose".to_owned());
    assert_eq!(values, [ok(0), ok(0), ok(1), ok(1), ok(2), ok(3), error]);
}
