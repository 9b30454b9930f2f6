//! Calling off what computes: the task that asks, the handle that is elsewhere, the kill.

use std::time::{Duration, Instant};

use aiopool::{Pool, TaskError, TaskOptions, sync_fn};
use aiopool_testing::{Folder, in_time, until};

/// Computes until it is called off, and says so in a file.
fn compute(path: String) -> u64 {
    let mut rounds = 0;
    while !aiopool::is_cancelled() {
        aiopool::progress(rounds);
        rounds += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::write(path, "called off").unwrap();
    rounds
}

/// The same on a thread of its own.
async fn compute_elsewhere(path: String) -> u64 {
    let task = aiopool::TaskContext::current().unwrap();
    let work = move || {
        std::fs::write(format!("{path}.began"), "").unwrap();
        while !task.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::fs::write(path, "called off").unwrap();
    };
    std::thread::spawn(work);
    std::future::pending().await
}

/// Never asks.
fn compute_for_ever(_: u64) -> u64 {
    aiopool::progress(1);
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

async fn pid(_: u64) -> u32 {
    std::process::id()
}

fn one_worker() -> Pool {
    Pool::builder().processes(1).build().unwrap()
}

#[tokio::test]
async fn a_function_that_computes_is_told_of_a_cancel_and_of_its_deadline() {
    let (folder, pool) = (Folder::new("compute"), one_worker());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let worker = in_time(pool.apply(pid, 0)).await.unwrap();
    let mut task = pool.apply(sync_fn(compute), path("cancelled"));
    until(|| task.progress().is_some_and(|rounds| rounds > 0)).await;
    task.cancel();
    assert!(matches!(in_time(task).await, Err(TaskError::Cancelled)));
    until(|| folder.path().join("cancelled").exists()).await;
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_millis(500)));
    let late = in_time(limited.apply(sync_fn(compute), path("late"))).await;
    assert!(matches!(late, Err(TaskError::TimedOut { started: true, .. })), "{late:?}");
    until(|| folder.path().join("late").exists()).await;
    // A handle that is dropped says it, too.
    let task = pool.apply(sync_fn(compute), path("dropped"));
    until(|| task.progress().is_some()).await;
    drop(task);
    until(|| folder.path().join("dropped").exists()).await;
    assert_eq!(in_time(pool.apply(pid, 0)).await.unwrap(), worker, "no worker had to die");
}

#[tokio::test]
async fn a_thread_of_a_task_is_told_too() {
    let (folder, pool) = (Folder::new("thread"), one_worker());
    let path = folder.path().join("thread");
    let mut task = pool.apply(compute_elsewhere, path.to_str().unwrap().to_owned());
    until(|| folder.path().join("thread.began").exists()).await;
    task.cancel();
    until(|| path.exists()).await;
}

#[tokio::test]
async fn outside_of_a_task_nothing_is_cancelled_and_nothing_progresses() {
    assert!(!aiopool::is_cancelled() && !aiopool::progress(1));
    assert!(aiopool::TaskContext::current().is_none());
    async fn in_a_subtask(_: u64) -> (bool, bool) {
        let there = tokio::spawn(async { aiopool::TaskContext::current().is_some() });
        (aiopool::progress(1), there.await.unwrap())
    }
    assert_eq!(in_time(one_worker().apply(in_a_subtask, 0)).await.unwrap(), (true, false));
}

#[tokio::test]
async fn a_cancel_within_a_time_ends_what_does_not_ask() {
    let pool = one_worker();
    let worker = in_time(pool.apply(pid, 0)).await.unwrap();
    let mut task = pool.apply(sync_fn(compute_for_ever), 0);
    until(|| task.progress().is_some()).await;
    let start = Instant::now();
    task.cancel_within(Duration::from_millis(50));
    assert!(matches!(in_time(task).await, Err(TaskError::Cancelled)));
    // The pool's own grace period is longer than the caller's.
    assert_ne!(in_time(pool.apply(pid, 0)).await.unwrap(), worker);
    assert!(start.elapsed() < Duration::from_secs(60), "a watchdog");
    assert_eq!(pool.stats().deaths, 1);
    // A task that obeys costs no worker.
    let worker = in_time(pool.apply(pid, 0)).await.unwrap();
    let mut task = pool.apply(|_: u64| std::future::pending::<()>(), 0);
    until(|| pool.stats().running == 1).await;
    task.cancel_within(Duration::from_secs(3));
    assert!(matches!(in_time(task).await, Err(TaskError::Cancelled)));
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(in_time(pool.apply(pid, 0)).await.unwrap(), worker);
}

#[tokio::test]
async fn an_abort_handle_calls_a_task_off_wherever_it_is() {
    let pool = Pool::builder().processes(1).child_concurrency(1).capacity(16).build().unwrap();
    let mut running = pool.apply(|_: u64| std::future::pending::<u32>(), 0);
    let abort = running.abort_handle();
    until(|| pool.stats().running == 1).await;
    let mut others: Vec<_> = (0..16).map(|n| pool.apply(pid, n)).collect();
    // The pool is full: the last one waits for room.
    let waits = others.last_mut().unwrap();
    assert!(!waits.is_submitted());
    let waiting = waits.abort_handle();
    assert!(!waiting.is_finished() && !abort.is_finished());
    let last = others.pop().unwrap();
    let joined = tokio::spawn(in_time(last));
    tokio::time::sleep(Duration::from_millis(20)).await;
    std::thread::spawn(move || waiting.abort()).join().unwrap();
    assert!(matches!(joined.await.unwrap(), Err(TaskError::Cancelled)));
    let queued = others[0].abort_handle();
    queued.abort();
    abort.clone().abort();
    assert!(matches!(in_time(running).await, Err(TaskError::Cancelled)));
    assert!(abort.is_finished());
    abort.abort();
    for (n, task) in others.into_iter().enumerate() {
        let result = in_time(task).await;
        assert_eq!(matches!(result, Err(TaskError::Cancelled)), n == 0, "{n}: {result:?}");
    }
}

#[tokio::test]
async fn an_abort_handle_says_that_a_task_which_never_found_room_is_over() {
    let pool = Pool::builder().processes(1).child_concurrency(1).capacity(16).build().unwrap();
    let busy: Vec<_> =
        (0..16).map(|n| pool.apply(|_: u64| std::future::pending::<u32>(), n)).collect();
    let waits = || {
        let mut task = pool.apply(pid, 0);
        assert!(!task.is_submitted());
        let abort = task.abort_handle();
        assert!(!abort.is_finished());
        (task, abort)
    };
    let (mut cancelled, abort) = waits();
    cancelled.cancel();
    assert!(abort.is_finished(), "cancelled by its own handle");
    let (dropped, abort) = waits();
    drop(dropped);
    assert!(abort.is_finished(), "dropped");
    let (detached, abort) = waits();
    detached.detach().unwrap_err();
    assert!(abort.is_finished(), "given up");
    let (now, abort) = waits();
    now.submitted_now().unwrap_err();
    assert!(abort.is_finished(), "refused for want of room");
    let (refused, abort) = waits();
    pool.terminate();
    assert!(matches!(in_time(refused).await, Err(TaskError::PoolClosed { .. })));
    assert!(abort.is_finished(), "refused");
    drop(busy);
}
