//! `tracing` at the places a user debugs, with ids; and workers' lines arrive whole.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use aiopool::{Pool, TaskOptions};
use aiopool_testing::in_time;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes each event with the spans around it to a file, a line with one call.
struct ToFile {
    path: String,
    next: AtomicU64,
    spans: Mutex<HashMap<u64, String>>,
    entered: Mutex<Vec<u64>>,
}

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for ToFile {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("aiopool") || metadata.target().starts_with("pool::events")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut fields = Fields::default();
        span.record(&mut fields);
        let text = format!("{}{{{} }}", span.metadata().name(), fields.0);
        self.spans.lock().unwrap().insert(id, text);
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans = self.spans.lock().unwrap();
        let around: Vec<&str> = self.entered.lock().unwrap().iter().map(|id| &*spans[id]).collect();
        append(&self.path, &format!("{}:{}", around.join(":"), fields.0));
    }

    fn enter(&self, span: &Id) {
        self.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut entered = self.entered.lock().unwrap();
        let at = entered.iter().rposition(|id| *id == span.into_u64()).unwrap();
        entered.remove(at);
    }
}

fn append(path: &str, line: &str) {
    use std::io::Write;
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn subscriber(path: String) -> ToFile {
    ToFile { path, next: 1.into(), spans: Mutex::default(), entered: Mutex::default() }
}

async fn subscribe(path: String) -> Result<(), String> {
    tracing::subscriber::set_global_default(subscriber(path)).map_err(|e| e.to_string())
}

async fn tell(x: u64) -> u64 {
    tracing::info!(x, "hello from a task");
    tokio::task::yield_now().await;
    tracing::info!(x, "again");
    x
}

async fn die(_: u64) {
    std::process::abort()
}

#[tokio::test]
async fn events_carry_pool_worker_and_task() {
    let directory = std::env::temp_dir();
    let file = |of: &str| {
        let path = directory.join(format!("aiopool-events-{of}-{}", std::process::id()));
        path.to_str().unwrap().to_owned()
    };
    let (in_host, in_worker) = (file("host"), file("worker"));
    subscribe(in_host.clone()).await.unwrap();
    let pool = Pool::builder().processes(1).initializer(subscribe, in_worker.clone());
    let pool = pool.build().unwrap();
    let first = pool.apply(tell, 41);
    let number = first.id().unwrap();
    in_time(first).await.unwrap();
    in_time(pool.with(TaskOptions::new()).apply(die, 1)).await.unwrap_err();
    // By the replacement, which is then there to leave.
    in_time(pool.apply(tell, 42)).await.unwrap();
    pool.close();
    in_time(pool.join()).await.unwrap();
    let host = std::fs::read_to_string(&in_host).unwrap();
    let worker = std::fs::read_to_string(&in_worker).unwrap();
    std::fs::remove_file(in_host).unwrap();
    std::fs::remove_file(in_worker).unwrap();
    let has = |text: &str, parts: &[&str]| {
        let found = text.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "no line with {parts:?} in:\n{text}");
    };
    let task = format!("task={number}");
    has(&host, &["a pool is built", "processes=1", "pool="]);
    has(&host, &["a worker was started", "worker=0", "pid="]);
    has(&host, &["a task is submitted", &task, "tell"]);
    has(&host, &["a task has its value", &task]);
    has(&host, &["a worker died", "signal 6"]);
    has(&host, &["a task has no value", "signal 6"]);
    has(&host, &["a pool moves on", "Closed"]);
    // In the worker, also after a wait, everything is inside of the worker and of the task.
    for text in ["hello from a task", "again"] {
        has(&worker, &["worker{ worker=0 pid=", &format!("task{{ {task} function="), "x=41", text]);
    }
    has(&worker, &["the worker leaves", "worker=0"]);
}

/// Longer than what a terminal's line buffer or a format's pieces would keep together.
const LONG: usize = 3000;

async fn fail_at_length(_: ()) -> Result<(), String> {
    Err("x".repeat(LONG))
}

async fn nothing(_: u64) {}

/// Not a test by itself: the host whose stderr the next test reads.
#[test]
#[ignore = "run by a_workers_lines_arrive_whole"]
fn host_of_talkative_workers() {
    let pool = Pool::builder()
        .processes(4)
        .max_tasks_per_child(1)
        .exit_hook(fail_at_length, ())
        .build()
        .unwrap();
    pool.map(nothing, 0..100).into_blocking_iter().for_each(|result| result.unwrap());
    pool.close();
    pool.join_blocking().unwrap();
}

#[test]
fn a_workers_lines_arrive_whole() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["events::host_of_talkative_workers", "--exact", "--ignored", "--nocapture"])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("exit hook")).collect();
    assert!(lines.len() >= 100, "{} lines", lines.len());
    for line in lines {
        let (head, tail) = line.split_at(line.len() - LONG);
        assert!(head.starts_with("aiopool: the exit hook of worker "), "{head}");
        assert!(head.ends_with(" failed: ") && tail.bytes().all(|b| b == b'x'), "{line}");
    }
}
