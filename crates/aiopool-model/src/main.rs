//! The explicit-state model of `docs/design.md` §5: every interleaving of every access of shared
//! memory, with kills, stops, cancels, retries, audits, several host threads, searchers, output
//! blocks and records used again. It knows no weak memory; for that there are the loom models.
//!
//! ```sh
//! cargo run --release -p aiopool-model                  # every run: no violation
//! cargo run --release -p aiopool-model -- --quick       # those that take seconds
//! cargo run --release -p aiopool-model -- --mutations   # every rule broken once: each is noticed
//! cargo run --release -p aiopool-model -- --only reuse  # one of them, with the way to a violation
//! ```

mod host;
mod lanes;
mod moves;
mod mutations;
mod rules;
mod scenarios;
mod search;
mod state;
mod supervisor;
mod worker;

use std::process::ExitCode;
use std::time::Instant;

use search::{Found, search};

/// More states than this and a run is not finished.
const LIMIT: usize = 60_000_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut quick, mut broken, mut only) = (false, false, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--mutations" => broken = true,
            "--only" => only = arguments.next(),
            other => {
                eprintln!("{other}: known are --quick, --mutations and --only NAME");
                return ExitCode::from(2);
            }
        }
    }
    let wanted = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    let fine = if broken { mutants(wanted) } else { runs(quick, wanted) };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every run; true if there were some and all was well.
fn runs(quick: bool, wanted: impl Fn(&str) -> bool) -> bool {
    let mut count = 0;
    let mut failures = 0;
    for scenario in scenarios::all() {
        if quick && scenario.long || !wanted(scenario.name) {
            continue;
        }
        count += 1;
        let start = Instant::now();
        let Found { states, complete, violation } = search(&scenario.config, LIMIT);
        let seconds = start.elapsed().as_secs_f32();
        let result = match &violation {
            Some((what, _)) => what,
            None if complete => "no violation",
            None => "too many states",
        };
        println!("{:45} {states:>10} states {seconds:>6.1} s  {result}", scenario.name);
        if let Some((_, way)) = violation {
            way.into_iter().for_each(|(who, what)| println!("    {}: {what}", name(who)));
        }
        failures += usize::from(result != "no violation");
    }
    count > 0 && failures == 0
}

/// Every mutation; true if there were some and each was noticed.
fn mutants(wanted: impl Fn(&str) -> bool) -> bool {
    let scenarios = scenarios::all();
    let mut count = 0;
    let mut missed = 0;
    for mutation in mutations::all() {
        if !wanted(mutation.name) {
            continue;
        }
        count += 1;
        let scenario = scenarios.iter().find(|scenario| scenario.name == mutation.scenario);
        let mut config = scenario.expect("a run of that name").config;
        (mutation.breaks)(&mut config.rules);
        let found = search(&config, LIMIT);
        let result = found.violation.as_ref().map_or("NOT NOTICED", |(what, _)| what);
        println!("| {} | {}: {result} |", mutation.name, mutation.scenario);
        missed += usize::from(found.violation.is_none());
    }
    count > 0 && missed == 0
}

fn name(who: u8) -> String {
    match who {
        0..10 => format!("worker {who}"),
        _ if usize::from(who) == 10 + rules::MAX.clients => "supervisor".to_owned(),
        _ => format!("client {}", who - 10),
    }
}
