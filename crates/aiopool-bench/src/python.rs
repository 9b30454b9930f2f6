//! Python's pools, in a process that runs one block whenever it is asked.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use anyhow::Context;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/python_rivals.py");

/// `benches/python_rivals.py`, serving.
pub struct Python {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    pub fn start(interpreter: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(interpreter);
        command.args([SCRIPT, "--serve"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| interpreter.display().to_string())?;
        let requests = child.stdin.take().context("a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Self { child, requests, answers })
    }

    /// For several contestants of one row.
    pub fn shared(self) -> Shared {
        Shared(Rc::new(RefCell::new(self)))
    }

    fn ask(&mut self, block: &str) -> anyhow::Result<Vec<f64>> {
        writeln!(self.requests, "{block}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let figures: Result<Vec<f64>, _> = answer.split_whitespace().map(str::parse).collect();
        figures.with_context(|| format!("python on {block:?}: {answer:?}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = writeln!(self.requests, "end");
        let _ = self.child.wait();
    }
}

/// One Python process for several contestants.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<Python>>);

impl Shared {
    /// The figure of one block, in the row's unit.
    pub fn ask(&self, block: &str) -> anyhow::Result<f64> {
        self.ask_all(block)?.first().copied().with_context(|| format!("python on {block:?}"))
    }

    /// The same for a block that has several.
    pub fn ask_all(&self, block: &str) -> anyhow::Result<Vec<f64>> {
        self.0.borrow_mut().ask(block)
    }
}
