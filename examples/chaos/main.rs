//! Death, hang and hostile memory on purpose, and the books checked after it.
//!
//! `cargo run --release --example chaos -- sweep|stop|host|scribble|soak [--quick] [--seconds N]
//! [--json]` prints its figures and exits 1 when a task was lost, doubled or left hanging, or
//! something leaked. `docs/reliability.md` says what each mode proves.

#![allow(clippy::disallowed_types)] // The driver is no part of what loom models.

mod books;
mod figures;
mod host;
mod processes;
mod random;
mod scribble;
mod soak;
mod sweep;
mod tasks;
mod tracer;

use std::process::ExitCode;

use figures::Figures;

/// What a run was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Ask {
    /// A sample instead of everything.
    quick: bool,
    /// How long, where the mode runs by time.
    seconds: Option<u64>,
    /// One JSON object instead of lines.
    json: bool,
}

const USAGE: &str = "usage: chaos sweep|stop|host|scribble|soak [--quick] [--seconds N] [--json]";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mode = words.next().unwrap_or_default();
    if mode == "victim" {
        host::victim(&words.next().unwrap_or_default());
    }
    let mut ask = Ask::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => ask.quick = true,
            "--json" => ask.json = true,
            "--seconds" => match words.next().and_then(|n| n.parse().ok()) {
                Some(seconds) => ask.seconds = Some(seconds),
                None => return misuse("--seconds takes a number"),
            },
            other => return misuse(&format!("{other} is not an option")),
        }
    }
    let run: fn(Ask) -> Figures = match mode.as_str() {
        "host" => host::run,
        "scribble" => scribble::run,
        "stop" => sweep::run_stops,
        "sweep" => sweep::run,
        "soak" => soak::run,
        other => return misuse(&format!("{other:?} is not a mode")),
    };
    let figures = run(ask);
    figures.print(&mode, ask.json);
    if figures.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn misuse(what: &str) -> ExitCode {
    eprintln!("chaos: {what}\n{USAGE}");
    ExitCode::from(2)
}
