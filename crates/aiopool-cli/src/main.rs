//! The `aiopool` command: one file per subcommand.
#![forbid(unsafe_code)]

mod dashboard;
mod engine;
mod logs;
mod nats;
mod node;
mod nodes;
mod pools;
mod progress;
mod ps;
mod scrape;
mod site;
mod stack;
mod stats;
mod summary;
mod top;
mod trace;
mod worker;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A crash-proof process pool for async tasks.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(aiopool_bench::Args),
    Dashboard(dashboard::Args),
    Jobs(nodes::JobArgs),
    Node(node::Args),
    Nodes(nodes::Args),
    Ps(ps::Args),
    Scrape(scrape::Args),
    Site(site::Args),
    Stack(stack::Args),
    Stats(stats::Args),
    Top(top::Args),
    Trace(trace::Args),
    Worker(worker::Args),
}

fn main() -> ExitCode {
    // Wrong usage ends here with status 2.
    let cli = Cli::parse();
    match &cli.command {
        // It has the whole terminal; a worker's records are its host's; a figure of the engine is
        // one without a subscriber.
        Command::Top(_) | Command::Worker(_) | Command::Bench(_) => {}
        _ => logs::install(),
    }
    let result = match cli.command {
        Command::Bench(args) => aiopool_bench::run(args),
        Command::Dashboard(args) => dashboard::run(args),
        Command::Jobs(args) => nodes::run_jobs(args),
        Command::Node(args) => node::run(args),
        Command::Nodes(args) => nodes::run(args),
        Command::Ps(args) => ps::run(args),
        Command::Scrape(args) => scrape::run(args),
        Command::Site(args) => site::run(args),
        Command::Stack(args) => stack::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Top(args) => top::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Worker(args) => worker::run(args),
    };
    match result {
        Ok(status) => status,
        // The reader of our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            aiopool_bench::output::complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}
