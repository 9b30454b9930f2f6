//! Cancelling tasks: by the handle, by dropping it, all of a map, or not at all.
//!
//!     cargo run --example cancel

use std::time::Duration;

use aiopool::Pool;

/// Says when it is dropped, which is where a task cleans up.
struct Guard(&'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        println!("{}: cleaned up in the worker", self.0);
    }
}

async fn wait_long(seconds: u64) -> u64 {
    let _guard = Guard("cancelled task");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    seconds
}

async fn note(text: String) {
    println!("{text}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().processes(1).build()?;

    let mut task = pool.apply(wait_long, 3600);
    tokio::time::sleep(Duration::from_millis(200)).await; // it is running by now
    task.cancel();
    println!("the caller: {}", task.await.unwrap_err());

    // A handle that is dropped cancels its task, so a `select!` or a timeout around it does.
    let task = pool.apply(wait_long, 3600);
    let late = tokio::time::timeout(Duration::from_millis(200), task).await;
    println!("the caller: {}", late.unwrap_err());

    // `detach` lets a task go on without its handle.
    pool.apply(note, "detached task: it ran".to_owned()).detach()?;

    pool.close();
    pool.join().await?;
    Ok(())
}
