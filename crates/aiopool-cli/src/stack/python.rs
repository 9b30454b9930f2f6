//! Python's stacks: a worker of the Python package has `faulthandler` write them into a memfd of its
//! own on a signal, also while native code holds the interpreter.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the memfd is called; `_worker.py` makes it.
const NAME: &str = "/memfd:aiopool-stack ";
/// The signal: no program and no kernel uses it for anything.
const SIGNAL: Signal = Signal::SIGSTKFLT;
/// Time until a worker must have written something.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time in which it writes no more when it is done.
const QUIET: Duration = Duration::from_millis(50);

/// Returns the stacks of the Python threads of `pid`; `None` if it is no worker that tells.
pub fn stacks(pid: u32) -> anyhow::Result<Option<String>> {
    let Some(path) = memfd(pid)? else { return Ok(None) };
    // Where the signal has no handler it would end the worker.
    if !is_caught(pid)? {
        return Ok(None);
    }
    let mut file = File::open(path).context("open what the worker writes into")?;
    let before = file.seek(SeekFrom::End(0))?;
    let begun = Instant::now();
    kill(Pid::from_raw(pid.cast_signed()), SIGNAL).context("send the worker a signal")?;
    let (mut len, mut since) = (before, Instant::now());
    loop {
        let now = file.metadata()?.len();
        if now != len {
            (len, since) = (now, Instant::now());
        } else if len > before && since.elapsed() >= QUIET {
            break;
        } else if len == before && begun.elapsed() >= PATIENCE {
            bail!("the worker does not answer: is it stopped?");
        }
        sleep(Duration::from_millis(2));
    }
    file.seek(SeekFrom::Start(before))?;
    let mut text = Vec::new();
    file.take(1 << 20).read_to_end(&mut text)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// Returns the memfd of the worker, under which it can be opened here.
fn memfd(pid: u32) -> anyhow::Result<Option<PathBuf>> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
    for entry in entries.flatten() {
        let is_it = fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with(NAME));
        if is_it {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn is_caught(pid: u32) -> anyhow::Result<bool> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    Ok(mask >> (SIGNAL as i32 - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;

    /// A program that tells as workers of the Python package do, is stuck, and ends when it may.
    const PROGRAM: &str = "\
import sys, threading
sys.path.insert(0, sys.argv[1])
import _stack
_stack.tell()
def stuck_here():
    print('ready', flush=True)
    sys.stdin.readline()
stuck_here()
print('went on', flush=True)
";

    #[test]
    fn a_python_program_that_waits_tells_its_functions_and_goes_on() {
        let package = aiopool_testing::root().join("python/aiopool");
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM])
            .arg(package)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a python3");
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "ready");
        for _ in 0..3 {
            let text = stacks(child.id()).unwrap().expect("it tells");
            assert_eq!(text.matches("in stuck_here").count(), 1, "{text}");
        }
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "went on");
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_program_that_does_not_tell_is_sent_nothing() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        assert_eq!(stacks(child.id()).unwrap(), None);
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
