//! Each example runs, and prints what it is there to show.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The names of the examples, each a single file.
fn examples() -> Vec<String> {
    let entries = std::fs::read_dir(aiopool_testing::root().join("examples")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let sources = paths.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    sources.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Where the examples are, built: `cargo test` has done so, with the features of all that it tests,
/// and `cargo test --test users` has not.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let this = std::env::current_exe().unwrap();
        let target = this.parent().and_then(Path::parent).unwrap().to_owned();
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--examples", "--quiet", "--profile", profile])
            .arg("--target-dir")
            .arg(target.parent().unwrap())
            .current_dir(aiopool_testing::root())
            .status();
        assert!(built.unwrap().success(), "the examples cannot be built");
        target.join("examples")
    })
}

/// What the example prints.
fn output_of(name: &str) -> String {
    let program = built().join(name);
    let mut child = Command::new(&program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    // A watchdog: an example takes a second or two.
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            let _ = child.kill();
            panic!("{name} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the example and looks for each of `lines` in what it prints.
fn prints(name: &str, lines: &[&str]) -> String {
    let output = output_of(name);
    for line in lines {
        assert!(output.contains(line), "{name} does not print {line:?}:\n{output}");
    }
    output
}

#[test]
fn hello() {
    let output = prints("hello", &["HELLO from process ", "BRAVE", "WORLD", "and this is process"]);
    assert!(output.find("HELLO") < output.find("WORLD"), "{output}");
}

#[test]
fn progress() {
    prints("progress", &["200 samples, their sum is 2646700"]);
}

#[test]
fn map() {
    let lines = ["in order: [200, 100, 0]", "root: 2\n", "no root: -1 has no root", "root: 3\n"];
    let output = prints("map", &lines);
    let naps = output.lines().filter(|line| line.starts_with("as completed: "));
    assert_eq!(naps.count(), 3, "{output}");
    assert!(output.ends_with("1000 of an endless iterator\n"), "{output}");
}

#[test]
fn retries() {
    let lines = ["the worker crashed, and attempt 2 gave a value", "fetched at attempt 3"];
    prints("retries", &lines);
}

#[test]
fn deadlines() {
    let lines = [
        "waiting: the task did not end within 100ms",
        "computing: the task did not end within 100ms",
        "not begun in 100ms",
    ];
    prints("deadlines", &lines);
}

#[test]
fn cancel() {
    let lines = [
        "the caller: the task was cancelled",
        "cancelled task: cleaned up in the worker",
        "the caller: deadline has elapsed",
        "detached task: it ran",
    ];
    prints("cancel", &lines);
}

#[test]
fn confined() {
    let output = output_of("confined");
    if output.contains("this kernel cannot enforce") {
        assert!(std::env::var_os("AIOPOOL_CI").is_none(), "{output}");
        return;
    }
    for line in ["what it may read: Dear Sir or Madam", "what it may not: ", "8 GiB: memory"] {
        assert!(output.contains(line), "{output}");
    }
    assert!(output.contains("a connection: "), "{output}");
}

#[test]
fn crash() {
    let lines = [
        "item 17 was lost: its worker was killed",
        "27 decoded, 3 crashed",
        "attempts: 3",
        "and the pool still works: 42",
    ];
    let output = prints("crash", &lines);
    assert_eq!(output.matches(" was lost: its worker ").count(), 3, "{output}");
}

#[test]
fn spawn() {
    let meanings = r#"[Some("eins"), Some("zwei")]"#;
    let lines = [format!("fork: {meanings}"), format!("spawn: {meanings}")];
    let output = prints("spawn", &[&lines[0], &lines[1]]);
    assert!(output.contains("there is no dictionary for xx"), "{output}");
}

#[test]
fn every_example_is_run_here_and_short() {
    let source = include_str!("examples.rs");
    for name in examples() {
        let text =
            std::fs::read_to_string(format!("{}/examples/{name}.rs", env!("CARGO_MANIFEST_DIR")));
        assert!(text.unwrap().lines().count() < 60, "{name} is long for a first look");
        let tuning = name.starts_with("tuning_");
        assert!(tuning || source.contains(&format!("fn {name}() {{")), "{name} is not run");
    }
}

/// Their figures depend on the machine; that they finish and print a line for each case does not.
#[test]
fn the_tuning_examples_finish() {
    for name in examples().into_iter().filter(|name| name.starts_with("tuning_")) {
        assert!(output_of(&name).lines().count() >= 2, "{name} prints too little");
    }
}

#[test]
fn thumbnails() {
    prints("thumbnails", &["39 thumbnails; picture-13: it was killed by signal 6"]);
}

#[test]
fn crawler() {
    prints("crawler", &["links; page 17: page 17 is not there"]);
}

#[test]
fn crashing_library() {
    let lines = ["was killed by signal 11", "4 lengths, 2 crashes, and the program goes on"];
    prints("crashing_library", &lines);
}

#[test]
fn web_service() {
    let lines =
        ["1000: HTTP/1.1 200 OK", "100000: HTTP/1.1 200 OK", "2 workers were warm, drained: true"];
    prints("web_service", &lines);
}

#[test]
fn resumable_batch() {
    let output = prints("resumable_batch", &["30 units, then "]);
    assert!(output.contains("then 70: 100 lines, none of them twice"), "{output}");
}

#[test]
fn adapters() {
    let lines = ["a service: HELLO from ", "an executor: HELLO from "];
    let output = prints("adapters", &lines);
    let pids: Vec<&str> = output.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(pids[0], pids[1], "one worker");
    assert_ne!(pids[1], pids[2], "and this process");
}
