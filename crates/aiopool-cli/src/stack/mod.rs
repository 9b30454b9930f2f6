//! `aiopool stack`: where a worker's code is, read from outside.
//!
//! The pool and the worker take no part in it and learn nothing of it: the kernel stops the
//! worker's threads for some milliseconds, while their registers and stacks are read.

mod image;
mod native;
mod python;

use std::process::ExitCode;

use aiopool::Snapshot;
use aiopool::view::WorkerView;
use aiopool_bench::output;
use anyhow::bail;

use crate::pools::{Asked, find, plain};

/// Show where a worker's code is: the stacks of its threads, Python's first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pool's name or its host's process id
    pool: String,
    /// The worker's number in `aiopool top`, or its process id; not needed if there is only one
    worker: Option<u32>,
    /// Also the frames of aiopool itself, below a task's
    #[arg(long)]
    all: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let address = find(Some(&args.pool))?;
    let sample = Asked::new(&address)?.ask()?;
    let workers = chosen(&sample.snapshot, args.worker)?;
    let mut status = ExitCode::SUCCESS;
    for worker in workers {
        output::say(format_args!("{}", head(worker)))?;
        let python = python::stacks(worker.pid);
        match &python {
            Ok(None) => {}
            Ok(Some(text)) => output::say(format_args!("{}", lines(text)))?,
            Err(error) => output::complain(format_args!("Python's stack: {error:#}")),
        }
        match native::stacks(worker.pid) {
            Ok(threads) => {
                for thread in threads {
                    output::say(format_args!("{}", thread_lines(&thread, args.all)))?;
                }
            }
            Err(error) => {
                output::complain(format_args!("the native stack: {error:#}"));
                if !matches!(python, Ok(Some(_))) {
                    status = ExitCode::FAILURE;
                }
            }
        }
    }
    Ok(status)
}

/// Returns the workers that `wanted`, a seat or a process id, means.
fn chosen(snapshot: &Snapshot, wanted: Option<u32>) -> anyhow::Result<Vec<&WorkerView>> {
    let workers = snapshot.workers.iter();
    let found: Vec<&WorkerView> = match wanted {
        Some(number) => {
            workers.filter(|worker| worker.seat == number || worker.pid == number).collect()
        }
        None => workers.collect(),
    };
    let several = found.iter().any(|worker| worker.seat != found[0].seat);
    if !found.is_empty() && !several {
        return Ok(found);
    }
    let list = snapshot.workers.iter().map(|worker| format!("  {}", head(worker)));
    let list = list.collect::<Vec<_>>().join("\n");
    match wanted {
        Some(number) => bail!("no worker {number}; there are:\n{list}"),
        None => bail!("say which worker:\n{list}"),
    }
}

/// Returns a line about a worker and what it polls.
fn head(worker: &WorkerView) -> String {
    let polled = worker.tasks.iter().find(|task| task.polled);
    let polled = polled.map(|task| {
        let time = worker.polling_ns.filter(|&ns| ns > 0).map(std::time::Duration::from_nanos);
        let time = time.map(|time| format!(", for {time:.1?} at least")).unwrap_or_default();
        format!(" polls task {} ({}){time}", task.task, plain(&task.function))
    });
    format!("worker {} (pid {}){}", worker.seat, worker.pid, polled.unwrap_or_default())
}

/// Returns the lines of a text, each with nothing in it that a terminal would act on.
fn lines(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  {}", plain(line))).collect::<Vec<_>>().join("\n")
}

/// Frames of the engine begin with these: what lies below a task's own.
const OWN: [&str; 2] = ["aiopool::task::entry::", "aiopool::worker::"];

fn thread_lines(thread: &native::Thread, all: bool) -> String {
    let mut text = format!("  thread {} ({})", thread.tid, plain(&thread.name));
    let own = |frame: &String| OWN.iter().any(|own| frame.trim_start_matches('<').starts_with(own));
    let shown = thread.frames.iter().position(own).filter(|&at| at > 0 && !all);
    let shown = shown.unwrap_or(thread.frames.len());
    for frame in &thread.frames[..shown] {
        text.push_str(&format!("\n    {}", plain(frame)));
    }
    if shown < thread.frames.len() {
        let below = thread.frames.len() - shown;
        text.push_str(&format!("\n    ({below} frames of aiopool and below; --all shows them)"));
    }
    if let Some(why) = &thread.ends {
        text.push_str(&format!("\n    ({})", plain(why)));
    }
    text
}
