//! Tasks that compute: how near the pool comes to the same work split by hand.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{ROUNDS_LONG, Spec};
use crate::contest::{Bar, Contest};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "makespan-even",
            about: "16 tasks of 50 ms of computing, against two processes with half each",
            build: |_| contest(even()),
        },
        Spec {
            name: "makespan-skewed",
            about: "1,000 tasks of 0.4 ms, one in a hundred of 40 ms, against two processes with half each",
            build: |_| contest(skewed()),
        },
    ]
}

/// Turns of the loop below that take a microsecond here, about; both sides do the same number.
const TURNS_A_US: u64 = 300;

/// Microseconds of computing in each task.
fn even() -> Vec<u64> {
    vec![50_000; 16]
}

/// Tasks enough that a long one at the end does not decide the result: a pool that takes tasks as
/// they come, without knowing how long they are, ends at best 1.025 times as late as one that deals
/// them out beforehand (1.13 times with 200 tasks of 2 and 200 ms; that is arithmetic, not the
/// pool).
fn skewed() -> Vec<u64> {
    (0..1_000).map(|i| if i % 100 == 50 { 40_000 } else { 400 }).collect()
}

async fn compute(us: u64) -> u64 {
    computed(us)
}

/// Depends on every turn, so that none can be left out.
fn computed(us: u64) -> u64 {
    (0..us * TURNS_A_US).fold(us, |x, i| {
        std::hint::black_box((x ^ i).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17))
    })
}

fn contest(tasks: Vec<u64>) -> anyhow::Result<Contest> {
    let pool = super::pool(2)?;
    let expected: Vec<u64> = tasks.iter().map(|&us| computed(us)).collect();
    let by_hand = tasks.clone();
    Ok(Contest::new("ms", move || {
        let start = Instant::now();
        let results: Result<Vec<u64>, _> =
            pool.map(compute, tasks.clone()).into_blocking_iter().collect();
        let time = start.elapsed();
        anyhow::ensure!(results? == expected, "a task gave a wrong result");
        Ok(ms(time))
    })
    .against("two processes", Some(Bar::AtMost(1.05)), move || split(&by_hand))
    .rounds(ROUNDS_LONG))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The same work in two plain processes, the tasks dealt out as evenly as can be beforehand.
fn split(tasks: &[u64]) -> anyhow::Result<f64> {
    let mut halves = [Vec::new(), Vec::new()];
    let mut sorted = tasks.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    for task in sorted {
        let lighter = usize::from(halves[0].iter().sum::<u64>() > halves[1].iter().sum());
        halves[lighter].push(task);
    }
    let mut hands = [hand(&halves[0])?, hand(&halves[1])?];
    let start = Instant::now();
    hands.iter_mut().for_each(Hand::go);
    hands.into_iter().try_for_each(Hand::done)?;
    Ok(ms(start.elapsed()))
}

/// A process that does its part of the work when its input ends, and ends.
pub struct Hand(Child);

impl Hand {
    /// `command` has pipes for its input and output; returns when the process is up.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.spawn()?;
        let mut ready = [0];
        child.stdout.as_mut().context("a pipe")?.read_exact(&mut ready)?;
        Ok(Self(child))
    }

    pub fn go(&mut self) {
        drop(self.0.stdin.take());
    }

    pub fn done(mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.0.wait()?.success(), "a process that does its part failed");
        Ok(())
    }
}

fn hand(tasks: &[u64]) -> anyhow::Result<Hand> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "--partner", "compute"]).args(tasks.iter().map(u64::to_string));
    Hand::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
}

/// The other side of a [`Hand`]: says that it is up, and waits for the start.
pub fn wait_for_start() -> anyhow::Result<()> {
    std::io::stdout().write_all(b"!")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Computes the tasks given.
pub fn serve(tasks: &[String]) -> anyhow::Result<()> {
    let tasks: Vec<u64> = tasks.iter().map(|t| t.parse()).collect::<Result<_, _>>()?;
    wait_for_start()?;
    for task in tasks {
        std::hint::black_box(computed(task));
    }
    Ok(())
}
