//! Commands that are run one after the other until one fails.

use std::process::{Command, ExitCode};

/// A command at the top of the repository; `words` are the program and its arguments.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(crate::root());
    command
}

/// Runs `commands` in order, and stops at the first that fails.
pub fn all(commands: impl IntoIterator<Item = Command>) -> ExitCode {
    for mut command in commands {
        eprintln!("xtask: {command:?}");
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                eprintln!("xtask: {command:?}: {status}");
                return ExitCode::FAILURE;
            }
            Err(error) => {
                eprintln!("xtask: {command:?} cannot be started: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// The measured table and plots of `docs/`, made anew.
pub fn figures(python: Option<String>) -> ExitCode {
    let build = ["cargo", "build", "--release", "--package=aiopool-cli", "--features=rivals"];
    let mut bench = command(&["target/release/aiopool", "bench", "--docs", "docs"]);
    if let Some(python) = &python {
        bench.args(["--python", python]);
    }
    all([command(&build), bench])
}

/// The rustdoc pages, and the claims of the documents.
pub fn docs() -> ExitCode {
    let pages = |words: &[&str]| {
        let mut rustdoc = command(&[&["cargo", "doc", "--no-deps", "--quiet"], words].concat());
        rustdoc.env("RUSTDOCFLAGS", "-D warnings");
        rustdoc
    };
    // The library by itself: beside the benchmarks it would be built with `internals`, whose items
    // are not public otherwise and link to what is private.
    let library = pages(&["--package=aiopool", "--features=capi,stats-page"]);
    let crates = ["bench", "cluster", "scrape", "testing"].map(|name| format!("-paiopool-{name}"));
    let crates = pages(&crates.each_ref().map(String::as_str));
    let claims = ["cargo", "test", "--package=aiopool", "--test=house"];
    all([library, crates, command(&claims)])
}
