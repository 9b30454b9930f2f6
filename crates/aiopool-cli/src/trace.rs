//! `aiopool trace`: what a running pool does, as a file that Perfetto opens.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aiopool_bench::output;
use anyhow::Context;
use serde_json::Value;

use crate::pools::{find, plain};

/// Record what a running pool's workers do, for <https://ui.perfetto.dev>
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pool's name or its host's process id; not needed if there is only one
    pool: Option<String>,
    /// How long
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Only every n-th task
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// The file; `-` for the standard output
    #[arg(short, long, default_value = "trace.json")]
    output: PathBuf,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=600.0).contains(&seconds) { Ok(seconds) } else { Err("0 to 600".to_owned()) }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let address = find(args.pool.as_deref())?;
    let mut observer = address.connect()?;
    let text = observer.trace(Duration::from_secs_f64(args.seconds), args.every)?;
    let timeline: Value =
        serde_json::from_str(&text).context("the pool's answer is no timeline")?;
    if args.output.as_os_str() == "-" {
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = args.output.display();
    std::fs::write(&args.output, &text).with_context(|| format!("write {path}"))?;
    let count = |name: &str| timeline["otherData"][name].as_u64().unwrap_or(0);
    let name = plain(address.name());
    output::say(format_args!("{path}: {} polls of {name}", count("entries")))?;
    if count("lost") > 0 {
        let lost = count("lost");
        let advice = "record less time, or only every n-th task with --every";
        output::say(format_args!("{lost} before them are not in it: {advice}"))?;
    }
    output::say(format_args!("open it with https://ui.perfetto.dev"))?;
    Ok(ExitCode::SUCCESS)
}
