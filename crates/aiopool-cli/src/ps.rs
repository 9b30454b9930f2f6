//! `aiopool ps`: the pools of this user.

use std::process::ExitCode;

use aiopool_bench::output;
use serde_json::json;

use crate::pools::{Asked, plain};

/// List the pools of this user that can be observed, with their hosts
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut found = Vec::new();
    for address in aiopool::view::pools() {
        // One that a killed host has left refuses, and is none; one whose host is stopped is.
        let Ok(mut asked) = Asked::new(&address) else { continue };
        found.push((address, asked.ask()));
    }
    if args.json {
        let pools = found.iter().map(|(address, answer)| match answer {
            Ok(sample) => {
                let pool = &sample.snapshot.pool;
                json!({
                    "name": pool.name,
                    "host_pid": pool.host_pid,
                    "number": pool.number,
                    "program": pool.program,
                    "stage": pool.stage,
                    "age_ns": pool.age_ns,
                    "processes": pool.processes,
                    "workers": pool.stats.workers,
                    "pending": pool.stats.pending,
                    "submitted": pool.stats.submitted,
                    "deaths": pool.stats.deaths,
                })
            }
            Err(error) => json!({
                "name": address.name(),
                "host_pid": address.host_pid(),
                "number": address.number(),
                "error": format!("{error:#}"),
            }),
        });
        output::say(format_args!("{}", serde_json::Value::Array(pools.collect())))?;
        return Ok(ExitCode::SUCCESS);
    }
    let head = ["HOST", "NAME", "PROGRAM", "STAGE", "WORKERS", "PENDING", "SUBMITTED", "DEATHS"];
    let mut rows = vec![head.map(str::to_owned)];
    for (address, answer) in &found {
        rows.push(match answer {
            Ok(sample) => {
                let pool = &sample.snapshot.pool;
                [
                    pool.host_pid.to_string(),
                    plain(&pool.name),
                    plain(&pool.program),
                    plain(&pool.stage),
                    format!("{}/{}", pool.stats.workers, pool.processes),
                    pool.stats.pending.to_string(),
                    pool.stats.submitted.to_string(),
                    pool.stats.deaths.to_string(),
                ]
            }
            Err(_) => {
                let mut row = std::array::from_fn(|_| "-".to_owned());
                row[0] = address.host_pid().to_string();
                row[1] = plain(address.name());
                row[3] = "no answer".to_owned();
                row
            }
        });
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        output::say(format_args!("{}", cells.collect::<Vec<_>>().join("  ").trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}
