//! `aiopool bench`: us and the rivals in one run, block by block in turn.

mod contest;
mod machine;
mod python;
mod report;
#[cfg(feature = "rivals")]
mod rivals;
mod rows;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use crate::output::{complain, say};
use contest::Row;
use machine::Machine;

/// Measure the pool beside what could be used instead
///
/// Every row is a number of rounds. In each round we and every rival run one short block, so that
/// what the machine does meanwhile happens to all; the ratio is taken round by round.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Fewer rounds: for a look, not for a claim
    #[arg(long)]
    quick: bool,
    /// Write the rows to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the rows with plots to this file as HTML
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Only the rows whose name contains this; may be given more than once
    #[arg(long, value_name = "NAME")]
    row: Vec<String>,
    /// Compare with Python's pools as well; PYTHON is the interpreter of a virtual environment
    /// made by `benches/python_rivals.py --setup DIR`
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Name the rows and do nothing
    #[arg(long)]
    list: bool,
    /// Be the other process of a rival
    #[arg(long, hide = true, num_args = 1..)]
    partner: Vec<String>,
}

/// What a run leaves.
#[derive(Debug, Serialize)]
struct Run {
    machine: Machine,
    command: String,
    rows: Vec<Row>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some((name, arguments)) = args.partner.split_first() {
        return partner(name, arguments);
    }
    // Before there is any thread: pools fork their workers from here, as a user's would.
    aiopool::init()?;
    let wanted = |name: &str| args.row.is_empty() || args.row.iter().any(|r| name.contains(&**r));
    let setup = rows::Setup { python: args.python.clone() };
    let chosen: Vec<_> = rows::all().into_iter().filter(|spec| wanted(spec.name)).collect();
    anyhow::ensure!(!chosen.is_empty(), "no row has such a name: see --list");
    if args.list {
        for spec in &chosen {
            say(format_args!("{:<24} {}", spec.name, spec.about))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let machine = Machine::of_now();
    say(format_args!("{machine}"))?;
    say(format_args!("{}", table::HEAD))?;
    let rounds = if args.quick { 5 } else { 21 };
    let mut rows = Vec::new();
    let mut failed = false;
    for spec in chosen {
        match (spec.build)(&setup).and_then(|contest| contest::run(spec.name, contest, rounds)) {
            Ok(measured) => {
                for row in measured {
                    say(format_args!("{}", table::line(&row)))?;
                    rows.push(row);
                }
            }
            // One row that cannot run here must not cost the others.
            Err(error) => {
                failed = true;
                complain(format_args!("{}: {error:#}", spec.name));
            }
        }
    }
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let run = Run { machine, command, rows };
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&run)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.report {
        let html = report::html(&run)?;
        std::fs::write(path, html).with_context(|| path.display().to_string())?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn partner(name: &str, arguments: &[String]) -> anyhow::Result<ExitCode> {
    match rows::serve(name, arguments) {
        Some(result) => result?,
        #[cfg(feature = "rivals")]
        None => rivals::serve(name, arguments)?,
        #[cfg(not(feature = "rivals"))]
        None => anyhow::bail!("{name}: built without the feature `rivals`"),
    }
    Ok(ExitCode::SUCCESS)
}
