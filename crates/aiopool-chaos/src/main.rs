//! Death, hang and hostile memory on purpose, and the books checked after it.
//!
//! `cargo run --release -p aiopool-chaos -- sweep|stop|host|scribble|soak|cluster [--quick]
//! [--seconds N] [--json]` prints its figures and exits 1 when a task was lost, doubled or left hanging, or
//! something leaked. `docs/reliability.md` says what each mode proves.

#![allow(clippy::disallowed_types)] // The driver is no part of what loom models.

mod books;
mod cluster;
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
use std::time::Duration;

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
    /// Go on with a soak until it has had this many tasks
    tasks: Option<u64>,
    /// and this many kills.
    kills: Option<u64>,
    /// Only these paths of a sweep, with commas between.
    paths: Option<&'static str>,
    /// A sweep's process for this share of the points,
    shard: Option<(usize, usize)>,
    /// with the trace in this file,
    trace: Option<&'static str>,
    /// on this processor,
    core: Option<usize>,
    /// for so long.
    millis: Option<Duration>,
}

const USAGE: &str =
    "usage: chaos sweep|stop|host|scribble|soak|cluster [--quick] [--seconds N] [--json]
  sweep and stop: [--paths NAME,NAME…]; soak: [--tasks N] [--kills N]";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mode = words.next().unwrap_or_default();
    if mode == "victim" {
        host::victim(&words.next().unwrap_or_default());
    }
    if mode == "cluster-node" || mode == "cluster-submitter" {
        let [url, other] = [words.next(), words.next()].map(Option::unwrap_or_default);
        let run = if mode == "cluster-node" { cluster::node } else { cluster::submitter };
        return run(&url, &other);
    }
    let ask = match ask(words) {
        Ok(ask) => ask,
        Err(what) => return misuse(&what),
    };
    if ask.shard.is_some() {
        sweep::work(&mode, ask).hand_over();
        return ExitCode::SUCCESS;
    }
    let run: fn(Ask) -> Figures = match mode.as_str() {
        "cluster" => cluster::run,
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

fn ask(mut words: impl Iterator<Item = String>) -> Result<Ask, String> {
    let mut ask = Ask::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} takes a value"));
        let number =
            |value: String| value.parse::<u64>().map_err(|_| format!("{value:?} is not a number"));
        match word.as_str() {
            "--quick" => ask.quick = true,
            "--json" => ask.json = true,
            "--seconds" => ask.seconds = Some(number(value()?)?),
            "--tasks" => ask.tasks = Some(number(value()?)?),
            "--kills" => ask.kills = Some(number(value()?)?),
            "--paths" => ask.paths = Some(Box::leak(value()?.into_boxed_str())),
            "--trace" => ask.trace = Some(Box::leak(value()?.into_boxed_str())),
            "--core" => ask.core = Some(number(value()?)? as usize),
            "--millis" => ask.millis = Some(Duration::from_millis(number(value()?)?)),
            "--shard" => {
                let value = value()?;
                let (shard, shards) = value.split_once('/').ok_or("--shard takes n/of")?;
                let part = |text: &str| number(text.to_owned()).map(|n| n as usize);
                ask.shard = Some((part(shard)?, part(shards)?));
            }
            other => return Err(format!("{other} is not an option")),
        }
    }
    Ok(ask)
}

fn misuse(what: &str) -> ExitCode {
    eprintln!("chaos: {what}\n{USAGE}");
    ExitCode::from(2)
}
