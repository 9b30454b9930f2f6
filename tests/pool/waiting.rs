//! Waiting for room and for outcomes in the corners that the model found.

use std::time::Duration;

use aiopool::Pool;

const WATCHDOG: Duration = Duration::from_secs(120);

/// The least that a queue can hold.
const CAPACITY: usize = 16;

struct SlowToGo;

impl Drop for SlowToGo {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Says that it runs, then sleeps; what is cancelled takes its time to go.
async fn linger(mark: String) {
    let _slow = SlowToGo;
    std::fs::write(mark, "").unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
}

async fn double(x: u64) -> u64 {
    x * 2
}

#[tokio::test]
async fn a_submitter_gets_the_record_of_a_task_that_was_called_off() {
    let pool = Pool::builder().processes(1).capacity(CAPACITY).build().unwrap();
    let marks: Vec<_> = (0..CAPACITY)
        .map(|i| std::env::temp_dir().join(format!("aiopool-linger-{}-{i}", std::process::id())))
        .collect();
    let linger = |mark: &std::path::PathBuf| pool.apply(linger, mark.to_str().unwrap().to_owned());
    let lingering: Vec<_> = marks.iter().map(linger).collect();
    tokio::time::timeout(WATCHDOG, async {
        while !marks.iter().all(|mark| mark.exists()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the tasks never started");
    for mark in &marks {
        let _ = std::fs::remove_file(mark);
    }
    // Cancelled, so no outcome is missing any more; but no record is free yet, and the worker was
    // not asked to ring.
    drop(lingering);
    let doubled = tokio::time::timeout(WATCHDOG, pool.apply(double, 21)).await;
    assert_eq!(doubled.expect("nobody told the submitter that there is room").unwrap(), 42);
}
