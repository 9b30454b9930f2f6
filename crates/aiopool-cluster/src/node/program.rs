//! A program that is a node, with the task functions of its own build.

use std::io::Write;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use super::Node;
use crate::error::Error;

const HELP: &str = "\
Serves a pool over NATS with the task functions of this program. Ctrl-C and SIGTERM let what runs
finish; a second one ends it at once.

  --nats URL             the servers, told apart by commas [nats://127.0.0.1:4222]
  --pool NAME            the pool [default]
  --name NAME            the node's name; without it one that no other node has
  --processes N          worker processes; without it one for each processor
  --child-concurrency N  tasks that a worker has in flight [16]
  --lease SECONDS        after so long without the server the node has lost its tasks, 4 to 150 [30]
";

/// Runs this program as a node until it is told to end, as [`Node::run`] does: the `main` of a node
/// that serves the task functions of this very build.
///
/// Its options are the program's arguments, `--nats URL`, `--pool NAME`, `--name NAME`,
/// `--processes N`, `--child-concurrency N` and `--lease SECONDS`; `--help` prints them. What
/// cannot be used is said on standard error, and the status is 2; it is 1 where the node cannot
/// run.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     aiopool_cluster::node_main()
/// }
/// ```
#[must_use]
pub fn node_main() -> ExitCode {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let node = match parse(words) {
        Ok(Some(node)) => node,
        Ok(None) => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        Err(text) => return complain(&text, 2),
    };
    match node.run() {
        Ok(report) => {
            say(&format!("{} done, {} failed\n", report.done, report.failed));
            ExitCode::SUCCESS
        }
        Err(error @ Error::InvalidOption { .. }) => complain(&error.to_string(), 2),
        Err(error) => complain(&error.to_string(), 1),
    }
}

/// Returns the node that the arguments ask for, or `None` where they ask for help.
fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Node>, String> {
    let mut node = Node::builder("nats://127.0.0.1:4222");
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        if option == "--help" {
            return Ok(None);
        }
        let known = ["--nats", "--pool", "--name", "--processes", "--child-concurrency", "--lease"];
        if !known.contains(&option.as_str()) {
            return Err(format!("{option} is no option of a node; --help says which there are"));
        }
        let Some(value) = value.or_else(|| words.next()) else {
            return Err(format!("{option} needs a value"));
        };
        node = match option.as_str() {
            "--nats" => Node { access: value.into(), ..node },
            "--pool" => node.pool(value),
            "--name" => node.name(value),
            "--processes" => node.processes(number(&option, &value)?),
            "--child-concurrency" => node.child_concurrency(number(&option, &value)?),
            _ => node.lease(Duration::from_secs(number(&option, &value)? as u64)),
        };
    }
    Ok(Some(node))
}

fn number(option: &str, value: &str) -> Result<usize, String> {
    let number = value.parse::<NonZeroUsize>().map(NonZeroUsize::get);
    number.map_err(|error| format!("{option} {value}: {error}"))
}

fn say(text: &str) {
    // Nobody may read it any more.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str, status: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {text}");
    ExitCode::from(status)
}
