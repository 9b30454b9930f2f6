//! What it costs a pool to be looked at: beside a pool that nobody looks at.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aiopool::Pool;
use anyhow::Context;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::{Spec, millions, pool, same};
use crate::contest::{Bar, Contest};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "top-attached",
            about: "map-1-worker while `aiopool top --json` asks once a second, against nobody",
            build: |_| top(),
        },
        Spec {
            name: "dashboard-attached",
            about: "the same while a browser's stream of `aiopool dashboard` is read",
            build: |_| dashboard(),
        },
        Spec {
            name: "metrics-on",
            about: "the same while a recorder gets the metrics once a second",
            build: |_| metrics_on(),
        },
        Spec {
            name: "context-carried",
            about: "the same while each task carries its caller's trace context into the worker",
            build: |_| context_carried(),
        },
        Spec {
            name: "trace-on",
            about: "the same while every task is recorded for a timeline",
            build: |_| traced(1, Bar::AtLeast(0.85)),
        },
        Spec {
            name: "trace-sampled",
            about: "the same while each hundredth task is",
            build: |_| traced(100, BAR),
        },
        Spec {
            name: "observable",
            about: "map-1-worker in a pool that can be looked at, against one that cannot",
            build: |_| observable(),
        },
        Spec {
            name: "logs-unused",
            about: "the same where what tasks log would be sent to the host, and none of them logs",
            build: |_| logs_unused(),
        },
    ]
}

/// Long enough that each block is looked at: `top` and the recorder ask once a second.
const BLOCK: Duration = Duration::from_millis(1_000);
/// Tasks of one map: a tenth of a block or less.
const TASKS: u64 = 100_000;
const ROUNDS: usize = 9;
/// What being looked at may cost.
const BAR: Bar = Bar::AtLeast(0.97);
/// A text is made for each task, and its input is twenty times as long.
const CARRIED: Bar = Bar::AtLeast(0.4);
const ALONE: &str = "nobody looks";

/// Millions of tasks a second, over a block.
fn block(pool: &Pool) -> anyhow::Result<f64> {
    let (start, mut tasks) = (Instant::now(), 0);
    while start.elapsed() < BLOCK {
        let mut sum = 0;
        for result in pool.map(same, 0..TASKS).window(1_000).into_blocking_iter() {
            sum += result?;
        }
        anyhow::ensure!(sum == TASKS * (TASKS - 1) / 2, "a task gave a wrong result");
        tasks += TASKS;
    }
    Ok(millions(start.elapsed(), tasks))
}

/// A program that looks at pools; it is stopped except while a block of ours runs.
struct Observer(Child);

impl Observer {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("start {command:?}"))?))
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args([name, &self.0.id().to_string()]).status()?;
        anyhow::ensure!(status.success(), "kill {name}: {status}");
        Ok(())
    }

    /// Runs `code` while the observer does.
    fn looks<T>(&self, code: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.signal("-CONT")?;
        let result = code();
        self.signal("-STOP")?;
        result
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn own_command(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

fn named(name: &str) -> anyhow::Result<Pool> {
    let pool = Pool::builder().processes(1).name(name).build()?;
    anyhow::ensure!(pool.apply(same, 1).wait()? == 1);
    Ok(pool)
}

fn against_nobody(ours: impl FnMut() -> anyhow::Result<f64> + 'static) -> anyhow::Result<Contest> {
    against_nobody_by(BAR, ours)
}

fn against_nobody_by(
    bar: Bar,
    ours: impl FnMut() -> anyhow::Result<f64> + 'static,
) -> anyhow::Result<Contest> {
    let alone = pool(1)?;
    Ok(Contest::new("M/s", ours).against(ALONE, Some(bar), move || block(&alone)).rounds(ROUNDS))
}

/// What is recorded is kept in memory; that it is written after the rounds is no part of them.
fn traced(every: u32, bar: Bar) -> anyhow::Result<Contest> {
    let pool = Pool::builder().processes(1).build()?;
    anyhow::ensure!(pool.apply(same, 1).wait()? == 1);
    let name = format!("aiopool-bench-trace-{every}-{}.json", std::process::id());
    let file = Recorded(std::env::temp_dir().join(name));
    let trace = pool.trace_sampled(&file.0, every)?;
    let all = (trace, file);
    against_nobody_by(bar, move || {
        let _recording = &all;
        block(&pool)
    })
}

/// A file that goes when this is dropped.
struct Recorded(std::path::PathBuf);

impl Drop for Recorded {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn top() -> anyhow::Result<Contest> {
    let pool = named("bench-top")?;
    let mut command = own_command(&["top", "--json", "bench-top"])?;
    let mut observer = Observer::start(command.stdout(Stdio::piped()))?;
    let mut lines = BufReader::new(observer.0.stdout.take().context("its output")?);
    lines.read_line(&mut String::new())?;
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    observer.signal("-STOP")?;
    against_nobody(move || observer.looks(|| block(&pool)))
}

fn dashboard() -> anyhow::Result<Contest> {
    let pool = named("bench-page")?;
    let mut command = own_command(&["dashboard", "--listen", "127.0.0.1:0"])?;
    let mut observer = Observer::start(command.stdout(Stdio::piped()))?;
    let mut url = String::new();
    BufReader::new(observer.0.stdout.take().context("its output")?).read_line(&mut url)?;
    let address = url.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut stream = TcpStream::connect(&address)?;
    write!(stream, "GET /stream HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    stream.read_exact(&mut [0; 256])?;
    std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
    observer.signal("-STOP")?;
    against_nobody(move || observer.looks(|| block(&pool)))
}

fn metrics_on() -> anyhow::Result<Contest> {
    // The first one of the process stays.
    let _ = metrics::set_global_recorder(Numbers::default());
    let pool = Pool::builder().processes(1).metrics(true).build()?;
    anyhow::ensure!(pool.apply(same, 1).wait()? == 1);
    against_nobody(move || block(&pool))
}

/// What each task carries is a header of W3C's Trace Context, and nobody records spans: what the
/// pool itself takes for it.
fn context_carried() -> anyhow::Result<Contest> {
    let of_caller = || Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let adopt = |_: &tracing::Span, context: &str| {
        std::hint::black_box(context);
    };
    let logs = aiopool::logs().carry_context(of_caller, adopt);
    let pool = Pool::builder().processes(1).logs(logs).build()?;
    anyhow::ensure!(pool.apply(same, 1).wait()? == 1);
    against_nobody_by(CARRIED, move || block(&pool))
}

/// A pool can be looked at unless its builder says otherwise.
fn observable() -> anyhow::Result<Contest> {
    let pool = pool(1)?;
    let closed = Pool::builder().processes(1).observable(false).build()?;
    anyhow::ensure!(closed.apply(same, 1).wait()? == 1);
    let contest = Contest::new("M/s", move || block(&pool));
    Ok(contest.against("not observable", Some(BAR), move || block(&closed)).rounds(ROUNDS))
}

fn logs_unused() -> anyhow::Result<Contest> {
    let pool = Pool::builder().processes(1).logs(aiopool::logs()).build()?;
    anyhow::ensure!(pool.apply(same, 1).wait()? == 1);
    against_nobody(move || block(&pool))
}

/// A recorder such as exporters have: a number for each name with its labels.
#[derive(Default)]
struct Numbers(Mutex<HashMap<Key, Arc<AtomicU64>>>);

impl Numbers {
    fn of(&self, key: &Key) -> Arc<AtomicU64> {
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(numbers.entry(key.clone()).or_default())
    }
}

impl Recorder for Numbers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
