//! `aiopool nodes` and `aiopool jobs`: which nodes serve a pool of several machines, what waits there,
//! and for which submitter.

use std::process::ExitCode;
use std::time::Duration;

use aiopool_bench::output;
use aiopool_cluster::{Connection, Error, Overview, end_job, observe};

use crate::nats::Server;
use crate::pools::{plain, plain_json};

/// Show the nodes and queues of a pool over NATS
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The servers, told apart by commas
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats: String,
    #[command(flatten)]
    server: Server,
    /// JSON instead of a table: one object a line
    #[arg(long)]
    json: bool,
    /// Show them again every second, until the reader has seen enough
    #[arg(long)]
    watch: bool,
}

/// Show the jobs of a pool over NATS, or end a durable one
#[derive(Debug, clap::Args)]
pub struct JobArgs {
    /// The servers, told apart by commas
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats: String,
    #[command(flatten)]
    server: Server,
    /// JSON instead of a table: one list a line
    #[arg(long)]
    json: bool,
    /// Show them again every second, until the reader has seen enough
    #[arg(long, conflicts_with = "end")]
    watch: bool,
    /// End this durable job, if no process holds it: its tasks are called off, its outcomes are gone
    #[arg(long, value_name = "NAME")]
    end: Option<String>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = |overview: &Overview| -> anyhow::Result<String> {
        Ok(if args.json { plain_json(overview)? } else { nodes(overview) })
    };
    show(&args.server.connection(&args.nats)?, &args.server.pool, args.watch, text)
}

pub fn run_jobs(args: JobArgs) -> anyhow::Result<ExitCode> {
    let connection = args.server.connection(&args.nats)?;
    if let Some(name) = args.end {
        let found = aiopool::block_on(end_job(connection, &args.server.pool, &name))?;
        if !found {
            output::complain(format_args!("error: there is no durable job named {name}"));
        }
        return Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let text = |overview: &Overview| -> anyhow::Result<String> {
        Ok(if args.json { plain_json(&overview.jobs)? } else { jobs(overview) })
    };
    show(&connection, &args.server.pool, args.watch, text)
}

/// Shows a pool once, or every second.
fn show(
    connection: &Connection,
    pool: &str,
    again: bool,
    text: impl Fn(&Overview) -> anyhow::Result<String>,
) -> anyhow::Result<ExitCode> {
    loop {
        let overview = match aiopool::block_on(observe(connection.clone(), pool)) {
            Ok(overview) => overview,
            // A server that is away may come back.
            Err(error) if again && !matches!(error, Error::InvalidOption { .. }) => {
                output::complain(format_args!("error: {error}"));
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        output::say(format_args!("{}", text(&overview)?.trim_end()))?;
        if !overview.exists {
            output::complain(format_args!("there is no pool `{pool}` on this server"));
        }
        if !again {
            return Ok(if overview.exists { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn nodes(overview: &Overview) -> String {
    let head = [
        "node",
        "state",
        "host",
        "pid",
        "build",
        "taken/places",
        "done",
        "failed",
        "lost",
        "heartbeat",
        "last pull",
    ];
    let rows = overview.nodes.iter().map(|node| {
        let state = match (node.alive, node.draining, node.broken) {
            (false, ..) => "gone",
            (true, true, _) => "draining",
            (true, false, true) => "broken",
            (true, false, false) => "alive",
        };
        vec![
            plain(&node.name),
            state.to_owned(),
            plain(&node.host),
            node.pid.to_string(),
            plain(&node.build),
            format!("{}/{}", node.taken, node.places),
            node.done.to_string(),
            node.failed.to_string(),
            node.lost.to_string(),
            format!("{} s ago", node.heartbeat_seconds),
            format!("{} s ago", node.pull_seconds),
        ]
    });
    let mut text = table(&head, rows.collect());
    for build in &overview.builds {
        text += &format!("build {}: {} queued", plain(&build.build), build.queued);
        if let Some(seconds) = build.oldest_seconds {
            text += &format!(", the oldest for {seconds} s");
        }
        if build.nodes == 0 {
            text += "; no node has this build";
        }
        text.push('\n');
    }
    text
}

fn jobs(overview: &Overview) -> String {
    let head = ["job", "state", "holder", "tasks", "queued", "taken", "lease", "heartbeat"];
    let rows = overview.jobs.iter().map(|job| {
        let state = match (job.alive, job.durable, job.held) {
            (false, ..) => "over",
            (true, true, true) => "durable, held",
            (true, true, false) => "durable, left",
            (true, false, _) => "alive",
        };
        vec![
            plain(&job.job),
            state.to_owned(),
            plain(&job.holder),
            job.tasks.to_string(),
            job.queued.to_string(),
            job.taken.to_string(),
            format!("{} s", job.lease_seconds),
            format!("{} s ago", job.heartbeat_seconds),
        ]
    });
    table(&head, rows.collect())
}

/// Puts cells under each other.
fn table(head: &[&str], mut rows: Vec<Vec<String>>) -> String {
    rows.insert(0, head.iter().map(|&word| word.to_owned()).collect());
    // As `format!` counts: in characters.
    let count = |row: &Vec<String>, column: usize| row[column].chars().count();
    let width = |column| rows.iter().map(|row| count(row, column)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn cells_are_as_wide_as_their_characters() {
        let rows = vec![vec!["äöü".to_owned(), "1".to_owned()]];
        assert_eq!(super::table(&["name", "n"], rows), "name  n\näöü   1\n");
        let rows = vec![vec!["äöüß".to_owned(), "1".to_owned()]];
        assert_eq!(super::table(&["host", "n"], rows), "host  n\näöüß  1\n");
    }
}
