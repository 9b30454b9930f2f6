//! A progress bar over a map: its hook says how many tasks have ended, and of how many.
//!
//!     cargo run --example progress

use std::time::Duration;

use aiopool::Pool;
use indicatif::{ProgressBar, ProgressStyle};

async fn measure(sample: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(20 + sample % 7 * 10)).await;
    sample * sample
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().processes(2).child_concurrency(4).build()?;

    // Drawn on the standard error, and only where that is a terminal.
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec}, {eta} left")?);
    let drawn = bar.clone();
    let measured = pool.map(measure, 0..200).progress(move |now| {
        drawn.set_length(now.total.unwrap_or(now.done));
        drawn.set_position(now.done);
    });
    let sum: u64 = measured.await?.iter().sum();
    bar.finish();

    println!("{} samples, their sum is {sum}", bar.position());
    Ok(())
}
