//! `aiopool node`: this machine as a node of a pool of several machines.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aiopool::StartMethod;
use aiopool_bench::output;
use aiopool_cluster::{Error, Node};
use anyhow::Context;

use crate::nats::Server;

/// Serve a pool over NATS with this machine's workers; without --load or --command with the task
/// functions of this very program. Ctrl-C and SIGTERM let what runs finish
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The servers, told apart by commas
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats: String,
    #[command(flatten)]
    server: Server,
    /// The node's name; without it one that no other node has
    #[arg(long)]
    name: Option<String>,
    /// Worker processes; without it one for each processor
    #[arg(long)]
    processes: Option<usize>,
    /// Tasks that a worker has in flight
    #[arg(long, default_value_t = 16)]
    child_concurrency: usize,
    /// Seconds after which a node that does not reach the server has lost its tasks
    #[arg(long, default_value_t = 30)]
    lease: u64,
    /// The version whose named functions the node serves; needed with --load and --command
    #[arg(long)]
    version_name: Option<String>,
    /// A C library with task functions
    #[arg(long, value_name = "LIBRARY", requires = "version_name", conflicts_with = "command")]
    load: Option<PathBuf>,
    /// A program that attaches as a worker, with its arguments; the last option
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true,
        requires = "version_name")]
    command: Vec<OsString>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut node = Node::builder(args.server.connection(&args.nats)?)
        .pool(args.server.pool)
        .child_concurrency(args.child_concurrency)
        .lease(Duration::from_secs(args.lease));
    if let Some(name) = args.name {
        node = node.name(name);
    }
    if let Some(processes) = args.processes {
        node = node.processes(processes);
    }
    if let Some(version) = args.version_name {
        node = node.version(version);
    }
    if let Some(library) = args.load {
        let program = std::env::current_exe().context("find this program's file")?;
        let words = [program.into(), "worker".into(), "--load".into(), library.into()];
        node = node.start_method(StartMethod::Command(words.into()));
    } else if !args.command.is_empty() {
        node = node.start_method(StartMethod::Command(args.command));
    }
    let report = match node.run() {
        Err(error @ Error::InvalidOption { .. }) => {
            output::complain(format_args!("error: {error}"));
            return Ok(ExitCode::from(2));
        }
        ended => ended?,
    };
    output::say(format_args!("{} done, {} failed", report.done, report.failed))?;
    Ok(ExitCode::SUCCESS)
}
