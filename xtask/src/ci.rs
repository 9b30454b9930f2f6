//! All that CI runs: each step by the command that a developer would type, then a table of them.

use std::collections::VecDeque;
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
        // The README's command, to the letter but for going on after a failure. A test waits for one
        // process after the other, and uses a third of a processor.
        with(step("tests", 1500, &["cargo", "test", "--no-fail-fast"]), "RUST_TEST_THREADS", "4"),
        step("tests of the tools", 600,
            &["cargo", "test", "--no-fail-fast", "-p", "aiopool-model", "-p", "aiopool-chaos",
                "-p", "aiopool-nats", "-p", "xtask"]),
        step("cluster: models, and real servers", 900, &["cargo", "test", "--no-fail-fast", "-p", "aiopool-cluster"]),
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
        step("Python: the wheel", 1500, &["python/test-wheel"]),
        step("C: safety", 600, &["crates/aiopool-capi/tests/safety.sh", "25"]),
        step("C: installed by cargo-c", 900, &["crates/aiopool-capi/tests/install.sh"]),
        step("C: installed by hand", 300, &["crates/aiopool-capi/tests/install.sh", "target/release"]),
    ]
}

/// What a step came to.
struct Done {
    name: &'static str,
    seconds: u64,
    printed: Printed,
    trouble: Option<String>,
}

/// What is known of the output of a step.
#[derive(Default)]
struct Printed {
    passed: u64,
    failed: u64,
    /// Whether the lines that come are of libtest's failures.
    in_failures: bool,
    /// The last lines of these.
    failures: VecDeque<String>,
    /// The last lines of all.
    last: VecDeque<String>,
}

/// Lines that are said again of a step that failed: with the table they fit onto a screen.
const AGAIN: usize = 30;

impl Printed {
    fn note(&mut self, line: &str) {
        if let Some((passed, failed)) = counts(line) {
            self.passed += passed;
            self.failed += failed;
            self.in_failures = false;
        }
        self.in_failures |= line.trim_end() == "failures:";
        let keep = |lines: &mut VecDeque<String>| {
            lines.push_back(line.to_owned());
            if lines.len() > AGAIN {
                lines.pop_front();
            }
        };
        // Less the frames of backtraces (their numbers, and "at" with a place), and what went well.
        let word = line.split_whitespace().next().unwrap_or_default();
        let is_frame = ["at", "note:", "stack"].contains(&word)
            || word.trim_end_matches(':').parse::<u32>().is_ok();
        if is_frame || word.is_empty() || line.contains(" ... ok") {
            return;
        }
        // pytest has no such section: what was not true, and the names at its end.
        let of_pytest = line.starts_with("E   ") || line.starts_with("FAILED ");
        let failures = self.in_failures || of_pytest;
        keep(if failures { &mut self.failures } else { &mut self.last });
    }

    fn and(mut self, mut other: Self) -> Self {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.append(&mut other.failures);
        self.last.append(&mut other.last);
        self
    }
}

/// `cargo xtask ci`: runs every step, or those whose names contain one of `parts`, whatever fails;
/// then prints the table and the sums.
pub fn run(parts: &[String]) -> ExitCode {
    let wanted =
        |step: &Step| parts.is_empty() || parts.iter().any(|part| step.name.contains(&**part));
    let done: Vec<Done> = steps().into_iter().filter(wanted).map(perform).collect();
    // Once more at the end, since the beginning of a long output is what is cut.
    for Done { name, printed, .. } in done.iter().filter(|step| step.trouble.is_some()) {
        println!("\n=== what {name} said of it:");
        let failures = &printed.failures;
        let said = if failures.is_empty() { &printed.last } else { failures };
        said.iter().for_each(|line| print!("{line}"));
    }
    println!("\n{:<40} {:>6} {:>7} {:>7}  result", "step", "s", "passed", "failed");
    for Done { name, seconds, printed: Printed { passed, failed, .. }, trouble } in &done {
        let result = trouble.as_deref().unwrap_or("ok");
        println!("{name:<40} {seconds:>6} {passed:>7} {failed:>7}  {result}");
    }
    let seconds: u64 = done.iter().map(|step| step.seconds).sum();
    let passed: u64 = done.iter().map(|step| step.printed.passed).sum();
    let failed: u64 = done.iter().map(|step| step.printed.failed).sum();
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
    let (printed, trouble) = match watch(&mut command, Duration::from_secs(limit)) {
        Ok(done) => done,
        Err(error) => (Printed::default(), Some(format!("cannot be started: {error}"))),
    };
    let seconds = began.elapsed().as_secs();
    println!("--- {name}: {} ({seconds} s)", trouble.as_deref().unwrap_or("ok"));
    Done { name, seconds, printed, trouble }
}

/// Runs `command` with its output passed on and its tests counted; it is killed after `limit`.
fn watch(command: &mut Command, limit: Duration) -> std::io::Result<(Printed, Option<String>)> {
    // `timeout` ends the step's whole process group.
    let mut all = Command::new("timeout");
    all.arg("--kill-after=10").arg(limit.as_secs().to_string());
    all.arg(command.get_program()).args(command.get_args()).current_dir(crate::root());
    all.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child =
        all.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let errors = child.stderr.take().map(|stream| thread::spawn(move || pass_on(stream)));
    let output = child.stdout.take().map(pass_on).unwrap_or_default();
    let printed = output.and(errors.and_then(|thread| thread.join().ok()).unwrap_or_default());
    let status = child.wait()?;
    let trouble = match status.code() {
        Some(0) => None,
        Some(124 | 137) => Some(format!("FAILED: took longer than {} s", limit.as_secs())),
        _ => Some(format!("FAILED: {status}")),
    };
    Ok((printed, trouble))
}

/// Prints what comes, and takes note of it.
fn pass_on(stream: impl Read) -> Printed {
    let mut reader = BufReader::new(stream);
    let mut printed = Printed::default();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let _ = std::io::stdout().write_all(&line);
        printed.note(&String::from_utf8_lossy(&line));
        line.clear();
    }
    printed
}

/// The tests passed and failed that a closing line of libtest or pytest names.
fn counts(line: &str) -> Option<(u64, u64)> {
    let text = line.trim().trim_matches('=').trim();
    // pytest's `-q` has no frame of `=`, and long runs add their time in hours after the seconds.
    let of_pytest = text.split_once(" in ").is_some_and(|(told, took)| {
        let seconds = took.split(' ').next().and_then(|word| word.strip_suffix('s'));
        (told.contains(" passed") || told.contains(" failed"))
            && told.starts_with(|first: char| first.is_ascii_digit())
            && seconds.is_some_and(|seconds| seconds.parse::<f64>().is_ok())
    });
    let closing = text.starts_with("test result: ") || of_pytest;
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
    use super::{AGAIN, Printed, counts};

    #[test]
    fn what_failed_is_said_again_however_much_comes_after_it() {
        let mut printed = Printed::default();
        printed.note("aiopool: a worker says something\n");
        printed.note("failures:\n");
        printed.note("thread 'a' panicked at b.rs:1:\n");
        printed.note("   3: core::panicking::panic\n");
        printed.note("             at ./b.rs:1:1\n");
        printed.note("\n");
        printed.note("test result: FAILED. 0 passed; 1 failed;\n");
        (0..2 * AGAIN).for_each(|n| printed.note(&format!("line {n}\n")));
        printed.note("test a ... ok\n");
        assert_eq!(printed.failures, ["failures:\n", "thread 'a' panicked at b.rs:1:\n"]);
        assert_eq!(printed.last.len(), AGAIN);
        assert_eq!(printed.last.back().unwrap(), "line 59\n");
        assert_eq!(printed.failed, 1);
    }

    #[test]
    fn closing_lines_of_libtest_and_pytest_are_counted() {
        let libtest = "test result: FAILED. 12 passed; 3 failed; 1 ignored; finished in 0.1s\n";
        assert_eq!(counts(libtest), Some((12, 3)));
        assert_eq!(counts("===== 2 failed, 40 passed in 3.21s =====\n"), Some((40, 2)));
        assert_eq!(counts("40 passed in 3.21s\n"), Some((40, 0)));
        let long = "1 failed, 287 passed, 4 warnings in 118.24s (0:01:58)\n";
        assert_eq!(counts(long), Some((287, 1)));
        assert_eq!(counts("2 passed what was said in turn\n"), None);
        assert_eq!(counts("test tests::a_test ... ok\n"), None);
        assert_eq!(counts("in 2 passes\n"), None);
    }
}
