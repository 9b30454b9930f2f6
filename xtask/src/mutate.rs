//! The mutation check: the product's code weakened in one place at a time, and which model or test
//! notices. A weakening that no test notices is a missing model.
//!
//! ```sh
//! cargo xtask mutate                             # all of them
//! cargo xtask mutate --sample                    # a few that take seconds
//! cargo xtask mutate --only fence --only epoch
//! ```
//!
//! All mutations are compiled at once into a copy of the tree, each behind a switch that
//! `AIOPOOL_MUTATION` names; the product's own tree knows nothing of them. A snippet that is not
//! in the code exactly once is an error, so the list keeps up with the code. The rules of the
//! explicit-state model are broken by `cargo run --release -p aiopool-model -- --mutations`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::list::{self, Mutation, Under};
use crate::tree;

/// Nothing that notices takes nearly as long; what hangs has been noticed.
const WATCHDOG: Duration = Duration::from_secs(300);

/// What a run of tests came to.
enum Ran {
    Passed,
    Failed(String),
    Hung,
}

/// `cargo xtask mutate`: exits 1 if a weakening goes unnoticed, 2 if it cannot tell.
pub fn run(mut words: impl Iterator<Item = String>) -> ExitCode {
    let (mut sample, mut only) = (false, Vec::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--sample" => sample = true,
            "--only" => only.extend(words.next()),
            other => {
                eprintln!("{other}: known are --sample and --only NAME");
                return ExitCode::from(2);
            }
        }
    }
    let all = list::all();
    let wanted: Vec<&Mutation> = all
        .iter()
        .filter(|mutation| {
            only.is_empty() || only.iter().any(|part| mutation.name.contains(part.as_str()))
        })
        .filter(|mutation| !sample || mutation.sample)
        .collect();
    if wanted.is_empty() {
        eprintln!("there is no such mutation");
        return ExitCode::from(2);
    }
    match check(&all, &wanted) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            println!("{missed} of {} not noticed", wanted.len());
            ExitCode::FAILURE
        }
        Err(what) => {
            eprintln!("mutations: {what}");
            ExitCode::from(2)
        }
    }
}

/// Tries the `wanted` mutations; returns the number of those that no test noticed.
fn check(all: &[Mutation], wanted: &[&Mutation]) -> Result<usize, String> {
    let root = crate::root();
    let tree = root.join("target/mutations/tree");
    tree::lay(&root, &tree, all)?;
    let mut programs = BTreeMap::new();
    let mut sound = BTreeSet::new();
    let mut missed = 0;
    for mutation in wanted {
        let program = match programs.get(&mutation.under) {
            Some(program) => program,
            None => {
                programs.entry(mutation.under).or_insert(tree::build(&root, &tree, mutation.under)?)
            }
        };
        // A test that fails anyhow notices nothing.
        if sound.insert((mutation.under, mutation.tests))
            && !matches!(run_tests(program, "", mutation.tests), Ran::Passed)
        {
            return Err(format!("{:?} fails without a mutation", mutation.tests));
        }
        let start = Instant::now();
        let found = match run_tests(program, mutation.name, mutation.tests) {
            Ran::Passed => {
                missed += 1;
                "NOBODY".to_owned()
            }
            Ran::Failed(tests) => tests,
            Ran::Hung => format!("{} (hangs)", mutation.tests[0]),
        };
        let under = if mutation.under == Under::Loom { "loom" } else { "test" };
        let seconds = start.elapsed().as_secs_f32();
        println!("{:<55} {under} {seconds:>6.1} s  {found}", mutation.name);
    }
    Ok(missed)
}

/// Runs tests until one fails.
fn run_tests(program: &Path, mutation: &str, tests: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(tests).arg("--test-threads=1").env("AIOPOOL_MUTATION", mutation);
    // A weakened protocol is found long before every order was tried.
    command.env_remove("LOOM_MAX_PREEMPTIONS").env("RUST_BACKTRACE", "0");
    let out = program.with_extension("out");
    let Ok(file) = std::fs::File::create(&out) else { return Ran::Passed };
    command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
    let mut child = command.spawn().expect("the tests were built");
    let end = Instant::now() + WATCHDOG;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return Ran::Hung;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = std::fs::read_to_string(&out).unwrap_or_default();
    if status.success() {
        assert!(!text.contains(" 0 passed"), "no test of that name: {tests:?}");
        return Ran::Passed;
    }
    let failed = text.lines().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(name.rsplit("::").next().unwrap_or(name).trim_end_matches(" - should panic"))
    });
    let failed: Vec<&str> = failed.collect();
    // A program that was aborted says no more.
    let died = || text.lines().last().unwrap_or_default().to_owned() + " (dies)";
    Ran::Failed(failed.first().map_or_else(died, |first| (*first).to_owned()))
}
