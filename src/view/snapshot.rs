//! A pool at one moment.

use serde::{Deserialize, Serialize};

use super::events::EventView;
use super::json;
use super::numbers::{FunctionStats, Stats};

/// A pool at one moment: what `aiopool top --json` prints, field for field.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The pool as a whole.
    pub pool: PoolView,
    /// Its worker processes, by seat; those that start or leave, too.
    pub workers: Vec<WorkerView>,
    /// Its queues.
    pub queues: Vec<QueueView>,
    /// The functions of which a task has ended, by name.
    pub functions: Vec<FunctionStats>,
    /// The last 256 notable events, oldest first.
    pub events: Vec<EventView>,
}

impl Snapshot {
    /// Returns it as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::to_line(self)
    }
}

/// The pool as a whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PoolView {
    /// Its name: the builder's, or the program's.
    pub name: String,
    /// Its number among the pools of its host, from 1.
    pub number: u64,
    /// The host's process id.
    pub host_pid: u32,
    /// The host's program.
    pub program: String,
    /// The version of the library that the host uses.
    pub version: String,
    /// `open`, `closed`, `terminating` or `ended`.
    pub stage: String,
    /// Nanoseconds since it was built.
    pub age_ns: u64,
    /// Workers that it keeps.
    pub processes: u64,
    /// Bytes of memory for inputs.
    pub input_arena: u64,
    /// Events since it was built; the list has the last of them.
    pub event_count: u64,
    /// What it has counted.
    #[serde(flatten)]
    pub stats: Stats,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Its initializer has not returned.
    #[default]
    Starting,
    /// Nothing to do; it sleeps until the host wakes it.
    Idle,
    /// Nothing in flight; it looks for a task.
    Searching,
    /// Between two polls of its tasks.
    Busy,
    /// It polls a task.
    Polling,
    /// One poll has lasted 100 ms or longer: the task blocks the worker's other tasks.
    Blocked,
    /// It sleeps; its tasks wait for timers or for input and output.
    Waiting,
    /// It takes no more tasks and finishes what it has.
    Retiring,
    /// It is about to leave, or its initializer has failed.
    Leaving,
    /// A signal or a debugger has stopped it.
    Stopped,
}

impl State {
    /// Returns the name that a snapshot's text and the metrics have for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Searching => "searching",
            Self::Busy => "busy",
            Self::Polling => "polling",
            Self::Blocked => "blocked",
            Self::Waiting => "waiting",
            Self::Retiring => "retiring",
            Self::Leaving => "leaving",
            Self::Stopped => "stopped",
        }
    }
}

/// One worker process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerView {
    /// Its seat in the pool; the process that replaces it has the same one.
    pub seat: u32,
    /// Its process id.
    pub pid: u32,
    /// The queue that it serves.
    pub queue: u32,
    /// What it is doing.
    pub state: State,
    /// For how long at least one poll has lasted, in nanoseconds, if it is in one.
    pub polling_ns: Option<u64>,
    /// Nanoseconds since it was ordered.
    pub age_ns: u64,
    /// Tasks that this process has finished.
    pub done: u64,
    /// Tasks that it has.
    pub in_flight: u64,
    /// The first 64 of them.
    pub tasks: Vec<TaskView>,
    /// Processor time of this process, in nanoseconds; `None` where the system hides it.
    pub cpu_ns: Option<u64>,
    /// Memory that it uses, shared pages included, in bytes.
    pub rss_bytes: Option<u64>,
    /// Memory with each shared page divided among its users, in bytes; measured now and then.
    pub pss_bytes: Option<u64>,
    /// Processes that had this seat before it.
    pub restarts: u64,
    /// How the last one of them ended.
    pub last_end: Option<String>,
}

/// A task that a worker has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskView {
    /// Its number in the pool.
    pub task: u64,
    /// The name of its function.
    pub function: String,
    /// Nanoseconds since the worker started it.
    pub age_ns: u64,
    /// Whether the worker is polling it.
    pub polled: bool,
    /// Whether it was cancelled, and the worker has not let go of it.
    pub cancelling: bool,
}

/// One queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueView {
    /// Its number.
    pub queue: u32,
    /// Tasks that no worker has taken, about: by priority class, the most urgent first.
    pub depth: Vec<u64>,
    /// Tasks without an outcome.
    pub pending: u64,
    /// How long the task at the head of the queue has waited, in nanoseconds.
    pub oldest_ns: Option<u64>,
    /// Tasks that it has room for.
    pub records: u64,
    /// Records that are free.
    pub free_records: u64,
    /// Bytes of memory that its workers' outputs have taken from the system; of what is free
    /// again up to 16 MiB a worker are among them.
    pub output_bytes: u64,
    /// Workers alive that serve it.
    pub workers: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_comes_back_from_its_line() {
        let worker = WorkerView {
            state: State::Blocked,
            tasks: vec![TaskView { function: "a\u{1b}[31m\"".into(), ..TaskView::default() }],
            last_end: Some("was killed".into()),
            ..WorkerView::default()
        };
        let snapshot = Snapshot {
            pool: PoolView { name: "x".into(), ..PoolView::default() },
            workers: vec![worker],
            queues: vec![QueueView { depth: vec![1, 2], ..QueueView::default() }],
            functions: vec![FunctionStats::default()],
            events: Vec::new(),
        };
        let line = snapshot.to_json();
        assert!(!line.contains(char::is_control), "{line}");
        let keys = serde_json::from_str::<serde_json::Value>(&line).unwrap();
        let keys: Vec<&String> = keys.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["events", "functions", "pool", "queues", "workers"]);
        assert!(line.contains(&format!("\"state\":\"{}\"", State::Blocked.name())), "{line}");
        let back: Snapshot = serde_json::from_str(&line).unwrap();
        assert_eq!(format!("{back:?}"), format!("{snapshot:?}"));
    }
}
