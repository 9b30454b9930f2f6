//! Deadlines: how long a task may run, and how long it may wait for a worker.
//!
//!     cargo run --example deadlines

use std::time::Duration;

use aiopool::{Pool, TaskError, TaskOptions};

async fn wait_for_answer(seconds: u64) -> u64 {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    seconds
}

async fn compute_for_ever(mut x: u64) -> u64 {
    while x != 1 {
        x = std::hint::black_box(x);
    }
    x
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder()
        .processes(1)
        .child_concurrency(1)
        .grace(Duration::from_millis(200))
        .build()?;
    let brief = TaskOptions::new().timeout(Duration::from_millis(100));

    // A task that awaits is cancelled in its worker, which goes on.
    let error = pool.with(brief).apply(wait_for_answer, 3600).wait().unwrap_err();
    println!("waiting: {error}");

    // One that never awaits does not notice: its worker is killed after the grace period.
    let error = pool.with(brief).apply(compute_for_ever, 0).wait().unwrap_err();
    println!("computing: {error}");

    // A task that no worker has begun in time is not begun any more.
    let busy = pool.apply(wait_for_answer, 3600);
    let impatient = TaskOptions::new().queue_ttl(Duration::from_millis(100));
    match pool.with(impatient).apply(wait_for_answer, 0).wait() {
        Err(TaskError::TimedOut { started: false, limit }) => println!("not begun in {limit:?}"),
        other => println!("unexpected: {other:?}"),
    }
    drop(busy);
    Ok(())
}
