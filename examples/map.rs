//! Many items: results in order, results as they come, errors beside values, an endless iterator.
//!
//!     cargo run --example map

use std::time::Duration;

use aiopool::Pool;

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

async fn root(x: i64) -> Result<f64, String> {
    if x < 0 { Err(format!("{x} has no root")) } else { Ok((x as f64).sqrt()) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().processes(2).build()?;

    // Awaited whole, a map gives all values in the order of the items, or the first error.
    println!("in order: {:?}", pool.map(nap, [200, 100, 0]).await?);

    // One by one, each as soon as it is there.
    let mut naps = pool.map(nap, [200, 100, 0]).as_completed();
    while let Some(ms) = naps.next().await {
        println!("as completed: {}", ms?);
    }

    // `try_map` is for functions that return a `Result`; `results` gives each task's own.
    for root in pool.try_map(root, [4, -1, 9]).results().await {
        match root {
            Ok(root) => println!("root: {root}"),
            Err(error) => println!("no root: {error}"),
        }
    }

    // Items are taken as there is room for them, so the iterator may be endless.
    let mut endless = pool.map(nap, std::iter::repeat(0));
    for _ in 0..1000 {
        endless.next().await.expect("it is endless")?;
    }
    println!("1000 of an endless iterator");
    Ok(())
}
