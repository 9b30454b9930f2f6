//! `aiopool stats`: prints what a running pool publishes.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use aiopool::{Histogram, PageStats, observe};
use serde_json::{Map, Value, json};

use aiopool_bench::output;

/// Prints the numbers of a pool that was built with `stats_page(NAME)`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The page's name
    name: String,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Repeat every second, until the pool ends
    #[arg(long)]
    watch: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut stats = observe(&args.name)?;
    loop {
        let text = if args.json { in_json(&stats).to_string() } else { in_lines(&stats) };
        output::say(format_args!("{text}"))?;
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(Duration::from_secs(1));
        stats = match observe(&args.name) {
            Ok(stats) => stats,
            // The pool was there, and has ended: so has the watch.
            Err(aiopool::Error::System { .. }) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error.into()),
        };
        if !args.json {
            output::say(format_args!(""))?;
        }
    }
}

fn in_json(stats: &PageStats) -> Value {
    let mut all: Map<String, Value> =
        stats.iter().map(|(name, number)| (name.to_owned(), number.into())).collect();
    all.insert("host_pid".to_owned(), stats.host_pid.into());
    all.insert("age_ms".to_owned(), (stats.age.as_millis() as u64).into());
    all.insert("waited".to_owned(), histogram_in_json(&stats.waited));
    all.insert("ran".to_owned(), histogram_in_json(&stats.ran));
    Value::Object(all)
}

fn histogram_in_json(histogram: &Histogram) -> Value {
    let ns = |duration: Duration| duration.as_nanos() as u64;
    json!({
        "count": histogram.count(),
        "mean_ns": ns(histogram.mean()),
        "p50_ns": ns(histogram.quantile(0.5)),
        "p90_ns": ns(histogram.quantile(0.9)),
        "p99_ns": ns(histogram.quantile(0.99)),
    })
}

fn in_lines(stats: &PageStats) -> String {
    let mut lines = vec![format!("{:<20} {}", "host_pid", stats.host_pid)];
    lines.extend(stats.iter().map(|(name, number)| format!("{name:<20} {number}")));
    for (name, histogram) in [("waited", &stats.waited), ("ran", &stats.ran)] {
        lines.push(format!(
            "{name:<20} mean {:?}, half within {:?}, 99 % within {:?}",
            histogram.mean(),
            histogram.quantile(0.5),
            histogram.quantile(0.99)
        ));
    }
    lines.join("\n")
}
