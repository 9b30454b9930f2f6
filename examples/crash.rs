//! Native code that crashes costs its own task; the pool and its other tasks go on.
//!
//!     cargo run --example crash

use aiopool::{Pool, TaskError, TaskOptions};

/// As a C library does that is given the wrong file.
async fn decode(number: u64) -> u64 {
    if number % 10 == 7 {
        std::process::abort();
    }
    number * 2
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One task a worker at a time: a crash has no neighbours that it could take with it.
    let pool = Pool::builder().processes(2).child_concurrency(1).build()?;
    let (mut decoded, mut crashed) = (0, 0);
    let mut results = pool.map(decode, 0..30).as_completed().enumerate();
    while let Some((item, result)) = results.next().await {
        match result {
            Ok(_) => decoded += 1,
            Err(TaskError::WorkerLost(lost)) => {
                println!("item {item} was lost: its worker {}", lost.exit);
                crashed += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!("{decoded} decoded, {crashed} crashed");

    // A task that always crashes is given up after the attempts that its caller allowed.
    let error = pool.with(TaskOptions::new().retries(2)).apply(decode, 7).await.unwrap_err();
    println!("attempts: {}", error.worker_lost().map_or(0, |lost| lost.attempt));
    println!("and the pool still works: {}", pool.apply(decode, 21).await?);
    Ok(())
}
