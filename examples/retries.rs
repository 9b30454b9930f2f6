//! Retries: after the death of a worker, and after an error where the caller allows that.
//!
//!     cargo run --example retries

use std::path::{Path, PathBuf};
use std::time::Duration;

use aiopool::{Pool, TaskOptions};

/// Fails twice, then works. The attempts are counted in a file, since each may run in another
/// process.
async fn fetch(counter: PathBuf) -> Result<String, String> {
    match count(&counter) {
        attempt @ 1..3 => Err(format!("attempt {attempt}: the server is busy")),
        attempt => Ok(format!("fetched at attempt {attempt}")),
    }
}

/// Kills its worker at the first attempt.
async fn crash_once(counter: PathBuf) -> u32 {
    match count(&counter) {
        1 => std::process::abort(),
        attempt => attempt,
    }
}

fn count(counter: &Path) -> u32 {
    let before = std::fs::read_to_string(counter).map_or(0, |text| text.parse().unwrap_or(0));
    std::fs::write(counter, (before + 1).to_string()).expect("the counter can be written");
    before + 1
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().processes(1).build()?;
    let folder = std::env::temp_dir().join(format!("aiopool-retries-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;

    // By default a task runs at most once. `retries` alone is for the death of the worker…
    let options = TaskOptions::new().retries(3);
    let attempt = pool.with(options).apply(crash_once, folder.join("crash")).wait()?;
    println!("the worker crashed, and attempt {attempt} gave a value");

    // … and with `retry_on_error` for errors and panics, too.
    let options = options.retry_on_error(true).backoff(Duration::from_millis(10));
    println!("{}", pool.with(options).try_apply(fetch, folder.join("fetch")).wait()?);

    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
