//! A pool that replaces no worker, after the death of its worker.

use std::time::Duration;

use crate::error::Error;
use crate::{Pool, TaskError};

/// Far above what any of this takes.
const WATCHDOG: Duration = Duration::from_secs(120);

async fn double(x: u64) -> u64 {
    2 * x
}

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

async fn die(_: u64) -> u64 {
    std::process::abort()
}

/// Submitted before, waiting for room, or after: no task waits for a worker that never comes.
#[test]
fn what_is_submitted_to_a_pool_without_workers_ends_with_an_error_that_says_so() {
    let builder = Pool::builder().processes(1).capacity(16).without_replacement();
    let pool = builder.build().unwrap();
    let mut tasks: Vec<_> = (0..15).map(|_| pool.apply(nap, 100_000)).collect();
    tasks.push(pool.apply(die, 0));
    let late: Vec<_> = (0..20).map(|x| pool.apply(double, x)).collect();
    for mut task in tasks {
        let outcome = task.wait_timeout(WATCHDOG).expect("it waits for ever");
        assert!(matches!(outcome, Err(TaskError::WorkerLost(_))), "{outcome:?}");
    }
    let refused = |error: TaskError| {
        let TaskError::NotSubmitted(error) = error else { panic!("{error:?}") };
        let Error::NoWorkers(reason) = &*error else { panic!("{error}") };
        assert!(reason.contains("signal 6") && reason.contains("not replaced"), "{reason}");
    };
    let end = |mut task: crate::Task<u64>| task.wait_timeout(WATCHDOG).expect("it waits for ever");
    for task in late {
        match end(task).unwrap_err() {
            // It had got the record of a lost one before the pool had ended what was queued.
            TaskError::WorkerLost(_) => {}
            error => refused(error),
        }
    }
    for x in 0..3 {
        refused(end(pool.apply(double, x)).unwrap_err());
    }
    let map = pool.map(double, 0..3).into_blocking_iter().next().unwrap();
    assert!(map.unwrap_err().to_string().contains("not replaced"));
    pool.close();
    pool.join_blocking().unwrap();
}
