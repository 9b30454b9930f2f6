//! Thumbnails: work that computes, on every core, with a crash that costs one picture.
//!
//!     cargo run --example thumbnails

use aiopool::{Pool, TaskError, TaskOptions, sync_fn};

/// A picture: its width and its grey pixels.
type Picture = (usize, Vec<u8>);

/// Halves a picture in both directions. A native decoder would crash on the broken one; this one
/// does so by itself.
fn halve((width, pixels): Picture) -> Picture {
    if pixels.len() % width != 0 {
        std::process::abort();
    }
    let rows: Vec<&[u8]> = pixels.chunks(width).collect();
    let mean = |x: usize, y: usize| {
        let four = [rows[y][x], rows[y][x + 1], rows[y + 1][x], rows[y + 1][x + 1]];
        (four.map(u32::from).iter().sum::<u32>() / 4) as u8
    };
    let (columns, lines) = (width / 2, rows.len() / 2);
    let halved = (0..columns * lines).map(|i| mean(2 * (i % columns), 2 * (i / columns)));
    (columns, halved.collect())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pictures: Vec<(String, Picture)> = (0..40)
        .map(|n| {
            let pixels = if n == 13 { 64 * 64 - 1 } else { 64 * 64 };
            (format!("picture-{n}"), (64, vec![n as u8; pixels]))
        })
        .collect();
    // One at a time in each worker: what computes does not share one, so a crash is its own.
    let pool = Pool::builder().child_concurrency(1).build()?;
    let options = TaskOptions::new().timeout(std::time::Duration::from_secs(30));
    let (mut done, mut broken) = (0, Vec::new());
    let results = pool.with(options).map_keyed(sync_fn(halve), pictures).as_completed();
    for (name, result) in results.into_blocking_iter() {
        match result {
            Ok((width, pixels)) => {
                assert_eq!((width, pixels.len()), (32, 32 * 32));
                done += 1;
            }
            Err(TaskError::WorkerLost(lost)) => broken.push(format!("{name}: it {}", lost.exit)),
            Err(other) => return Err(other.into()),
        }
    }
    println!("{done} thumbnails; {}", broken.join(", "));
    Ok(())
}
