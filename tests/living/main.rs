//! What real programs do to a pool, and what must not come of it.

mod codec;
mod dead_man;
mod end;
mod env;
mod errors;
mod hosts;
mod logs;
mod runtimes;
mod traces;
mod wait;

use std::process::{Command, Stdio};

/// Names the case in the environment of the process that runs it.
const CASE: &str = "AIOPOOL_LIVING_CASE";

/// Runs `body` in a process of its own, by the whole name of the test that calls. Returns what it
/// printed.
fn alone(test: &str, body: impl FnOnce()) -> String {
    if std::env::var(CASE).is_ok_and(|case| case == test) {
        body();
        // Not back into the harness, whose own words are not what is asked for.
        std::process::exit(0);
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "--test-threads=1", "--exact", test])
        .env(CASE, test)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{test}: {}\n{said}\n{errors}", child.status);
    said
}
