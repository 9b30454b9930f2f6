//! `aiopool bench`: us and the rivals in one run, block by block in turn.

mod contest;
mod docs;
mod machine;
pub mod output;
mod parts;
mod plots;
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

use contest::{Measured, Row};
use machine::Machine;
use output::{complain, say};

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
    /// Bring the table, the plots and the JSON in this folder, our `docs`, up to date
    #[arg(long, value_name = "FOLDER", hide = true)]
    docs: Option<PathBuf>,
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
struct Run {
    machine: Machine,
    command: String,
    measured: Vec<Measured>,
}

impl Run {
    /// The rows, and in lists of their own what else is known of each.
    fn json(&self) -> anyhow::Result<String> {
        #[derive(Serialize)]
        struct Json<'r> {
            machine: &'r Machine,
            command: &'r str,
            rows: Vec<&'r Row>,
            bars: Vec<Verdict<'r>>,
            ratios: Vec<Ratios<'r>>,
        }
        #[derive(Serialize)]
        struct Verdict<'r> {
            name: &'r str,
            rival: &'r str,
            bar: String,
            met: bool,
        }
        #[derive(Serialize)]
        struct Ratios<'r> {
            name: &'r str,
            rival: &'r str,
            by_round: &'r [f64],
        }
        let Self { machine, command, measured } = self;
        let verdict = |m: &'_ Measured| Some((m.bar?.to_string(), m.met()?));
        let bars = measured.iter().filter_map(|m| {
            let (bar, met) = verdict(m)?;
            Some(Verdict { name: &m.row.name, rival: &m.row.rival, bar, met })
        });
        let ratios = measured.iter().map(|m| Ratios {
            name: &m.row.name,
            rival: &m.row.rival,
            by_round: &m.ratios,
        });
        let json = Json {
            machine,
            command,
            rows: measured.iter().map(|m| &m.row).collect(),
            bars: bars.collect(),
            ratios: ratios.collect(),
        };
        Ok(serde_json::to_string_pretty(&json)? + "\n")
    }
}

/// Measures the rows that `args` choose, prints the table and writes the files asked for.
///
/// # Errors
///
/// When a file cannot be written or the output cannot be printed; a row that cannot run is
/// reported, and costs the exit status only.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some((name, arguments)) = args.partner.split_first() {
        return partner(name, arguments);
    }
    // Before there is any thread: pools fork their workers from here, as a user's would.
    let lent = crate::parts::register_loans()?;
    aiopool::init()?;
    let wanted = |name: &str| args.row.is_empty() || args.row.iter().any(|r| name.contains(&**r));
    let setup = rows::Setup { python: args.python.clone(), lent };
    let all = rows::all(args.list || args.python.is_some());
    let chosen: Vec<_> = all.into_iter().filter(|spec| wanted(spec.name)).collect();
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
    let limit = if args.quick { 5 } else { usize::MAX };
    let mut measured = Vec::new();
    let mut failed = false;
    for spec in chosen {
        match (spec.build)(&setup).and_then(|contest| contest::run(spec.name, contest, limit)) {
            Ok(rows) => {
                for row in rows {
                    say(format_args!("{}", table::line(&row)))?;
                    measured.push(row);
                }
            }
            // One row that cannot run here must not cost the others.
            Err(error) => {
                failed = true;
                complain(format_args!("{}: {error:#}", spec.name));
            }
        }
    }
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let run = Run { machine, command: format!("aiopool {command}"), measured };
    if let Some(path) = &args.json {
        std::fs::write(path, run.json()?).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.report {
        let html = report::html(&run)?;
        std::fs::write(path, html).with_context(|| path.display().to_string())?;
    }
    if let Some(folder) = &args.docs {
        docs::write(folder, &run)?;
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
