//! A batch that goes on where it was: what is done is written down, and the rest is done again.
//!
//!     cargo run --example resumable_batch

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use aiopool::{Pool, TaskOptions};

/// One unit of the batch, in steps that the host can watch.
async fn process(unit: u32) -> u32 {
    for step in 1..=10 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        aiopool::progress(step);
    }
    unit * unit
}

/// Does what the journal does not list, at most `limit` units of it. Returns how many it did.
fn run(journal: &Path, units: std::ops::Range<u32>, limit: usize) -> aiopool::Result<usize> {
    let written = fs::read_to_string(journal).unwrap_or_default();
    let done: BTreeSet<u32> =
        written.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    let mut journal = File::options().append(true).create(true).open(journal).expect("a journal");
    let pool = Pool::builder().processes(2).build()?;
    let again = TaskOptions::new().retries(2).retry_on_error(true);
    let left = units.filter(|unit| !done.contains(unit)).map(|unit| (unit, unit));
    let mut count = 0;
    // Each result is written when it comes: whatever ends this program costs the units in flight.
    for (unit, result) in
        pool.with(again).map_keyed(process, left).as_completed().into_blocking_iter()
    {
        if let Ok(value) = result {
            writeln!(journal, "{unit} {value}").expect("a line");
            count += 1;
        }
        if count == limit {
            break; // as if the machine had gone down: what is in flight is cancelled
        }
    }
    Ok(count)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let journal = std::env::temp_dir().join(format!("aiopool-batch-{}", std::process::id()));
    let first = run(&journal, 0..100, 30)?;
    let second = run(&journal, 0..100, usize::MAX)?;
    let lines = fs::read_to_string(&journal)?.lines().count();
    println!("{first} units, then {second}: {lines} lines, none of them twice");
    fs::remove_file(journal)?;
    Ok(())
}
