//! All that CI runs: each step by the command that a developer would type, then a table of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::steps::command;

/// A step: its name, its time limit in seconds, and its command.
struct Step {
    name: &'static str,
    limit: u64,
    command: Command,
}

fn step(name: &'static str, limit: u64, words: &[&str]) -> Step {
    Step { name, limit, command: command(words) }
}

/// `step` with a variable in the command's environment.
fn with(mut step: Step, name: &str, value: &str) -> Step {
    step.command.env(name, value);
    step
}

#[rustfmt::skip] // one step a line, as far as it goes
fn steps() -> Vec<Step> {
    let chaos = |name, words: &[&str]| {
        let all = [&["cargo", "run", "--release", "--quiet", "-p", "aiopool-chaos", "--"], words];
        step(name, 240, &all.concat())
    };
    vec![
        step("format", 60, &["cargo", "fmt", "--all", "--check"]),
        step("clippy", 900, &["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        step("clippy, the library without features", 300,
            &["cargo", "clippy", "-p", "aiopool", "--no-default-features", "--lib", "--", "-D", "warnings"]),
        // The README's command, to the letter but for going on after a failure.
        step("tests", 1500, &["cargo", "test", "--no-fail-fast"]),
        step("tests of the tools", 600,
            &["cargo", "test", "--no-fail-fast", "-p", "aiopool-model", "-p", "aiopool-chaos", "-p", "xtask"]),
        step("cluster: models, and real servers", 900, &["cargo", "test", "-p", "aiopool-cluster"]),
        step("docs", 600, &["cargo", "xtask", "docs"]),
        step("package", 300, &["cargo", "publish", "--dry-run", "--no-verify", "--allow-dirty", "-p", "aiopool"]),
        with(step("loom models", 900, &["cargo", "test", "-p", "aiopool", "--release", "--lib",
            "--no-default-features", "--target-dir", "target/loom"]), "RUSTFLAGS", "--cfg aiopool_loom"),
        step("explicit-state model", 600,
            &["cargo", "run", "--release", "--quiet", "-p", "aiopool-model", "--", "--quick"]),
        step("mutations", 600, &["cargo", "xtask", "mutate", "--sample"]),
        step("fuzz", 600, &["fuzz/run", "20"]),
        step("chaos: build", 600, &["cargo", "build", "--release", "--quiet", "-p", "aiopool-chaos"]),
        chaos("chaos: soak", &["soak", "--seconds", "40"]),
        chaos("chaos: cluster", &["cluster", "--quick"]),
        chaos("chaos: host", &["host", "--quick"]),
        chaos("chaos: scribble", &["scribble", "--quick"]),
        chaos("chaos: sweep", &["sweep", "--quick", "--seconds", "60"]),
        chaos("chaos: stop", &["stop", "--quick", "--seconds", "40"]),
        step("other languages", 900, &["ffi-examples/run-all"]),
        step("Python: the wheel", 900, &["python/test-wheel"]),
        step("C: safety", 600, &["crates/aiopool-capi/tests/safety.sh", "25"]),
        step("C: installed by cargo-c", 900, &["crates/aiopool-capi/tests/install.sh"]),
        step("C: installed by hand", 300, &["crates/aiopool-capi/tests/install.sh", "target/release"]),
    ]
}

/// What a step came to.
struct Done {
    name: &'static str,
    seconds: u64,
    passed: u64,
    failed: u64,
    trouble: Option<String>,
}

/// `cargo xtask ci`: runs every step, or those whose names contain one of `parts`, whatever fails;
/// then prints the table and the sums.
pub fn run(parts: &[String]) -> ExitCode {
    let wanted =
        |step: &Step| parts.is_empty() || parts.iter().any(|part| step.name.contains(&**part));
    let done: Vec<Done> = steps().into_iter().filter(wanted).map(perform).collect();
    println!("\n{:<40} {:>6} {:>7} {:>7}  result", "step", "s", "passed", "failed");
    for Done { name, seconds, passed, failed, trouble } in &done {
        let result = trouble.as_deref().unwrap_or("ok");
        println!("{name:<40} {seconds:>6} {passed:>7} {failed:>7}  {result}");
    }
    let seconds: u64 = done.iter().map(|step| step.seconds).sum();
    let passed: u64 = done.iter().map(|step| step.passed).sum();
    let failed: u64 = done.iter().map(|step| step.failed).sum();
    let steps_failed = done.iter().filter(|step| step.trouble.is_some()).count() as u64;
    println!("{:<40} {seconds:>6} {passed:>7} {failed:>7}\n", "together");
    // A step that fails without a failed test, such as clippy, counts as one failure.
    let failed = failed.max(steps_failed);
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn perform(Step { name, limit, mut command }: Step) -> Done {
    println!("=== {name}: {command:?}");
    let began = Instant::now();
    let (passed, failed, trouble) = match watch(&mut command, Duration::from_secs(limit)) {
        Ok((passed, failed, trouble)) => (passed, failed, trouble),
        Err(error) => (0, 0, Some(format!("cannot be started: {error}"))),
    };
    let seconds = began.elapsed().as_secs();
    println!("--- {name}: {} ({seconds} s)", trouble.as_deref().unwrap_or("ok"));
    Done { name, seconds, passed, failed, trouble }
}

/// Runs `command` with its output passed on and its tests counted; it is killed after `limit`.
fn watch(command: &mut Command, limit: Duration) -> std::io::Result<(u64, u64, Option<String>)> {
    // `timeout` ends the step's whole process group.
    let mut all = Command::new("timeout");
    all.arg("--kill-after=10").arg(limit.as_secs().to_string());
    all.arg(command.get_program()).args(command.get_args()).current_dir(crate::root());
    all.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child =
        all.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let errors = child.stderr.take().map(|stream| thread::spawn(move || pass_on(stream)));
    let (mut passed, mut failed) = child.stdout.take().map(pass_on).unwrap_or_default();
    if let Some((more_passed, more_failed)) = errors.and_then(|thread| thread.join().ok()) {
        passed += more_passed;
        failed += more_failed;
    }
    let status = child.wait()?;
    let trouble = match status.code() {
        Some(0) => None,
        Some(124 | 137) => Some(format!("FAILED: took longer than {} s", limit.as_secs())),
        _ => Some(format!("FAILED: {status}")),
    };
    Ok((passed, failed, trouble))
}

/// Prints what comes, and counts the tests that it speaks of.
fn pass_on(stream: impl Read) -> (u64, u64) {
    let mut reader = BufReader::new(stream);
    let (mut passed, mut failed) = (0, 0);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let _ = std::io::stdout().write_all(&line);
        if let Some((more_passed, more_failed)) = counts(&String::from_utf8_lossy(&line)) {
            passed += more_passed;
            failed += more_failed;
        }
        line.clear();
    }
    (passed, failed)
}

/// The tests passed and failed that a closing line of libtest or pytest names.
fn counts(line: &str) -> Option<(u64, u64)> {
    let text = line.trim().trim_matches('=').trim();
    let closing = text.starts_with("test result: ")
        || (text.contains(" in ") && text.ends_with('s') && line.starts_with('='))
        || (text.contains(" passed in ") && text.ends_with('s'));
    if !closing {
        return None;
    }
    let number = |what: &str| {
        let before = text.split(what).next().filter(|before| *before != text)?;
        before.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some((number(" passed").unwrap_or(0), number(" failed").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn closing_lines_of_libtest_and_pytest_are_counted() {
        let libtest = "test result: FAILED. 12 passed; 3 failed; 1 ignored; finished in 0.1s\n";
        assert_eq!(counts(libtest), Some((12, 3)));
        assert_eq!(counts("===== 2 failed, 40 passed in 3.21s =====\n"), Some((40, 2)));
        assert_eq!(counts("40 passed in 3.21s\n"), Some((40, 0)));
        assert_eq!(counts("test tests::a_test ... ok\n"), None);
        assert_eq!(counts("in 2 passes\n"), None);
    }
}
