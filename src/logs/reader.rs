//! The host's end: one thread a pool that gives records to the host's subscriber.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::field::{FieldSet, Value};
use tracing::{Dispatch, Event, Metadata};
use tracing_core::callsite::{Callsite, Identifier};
use tracing_core::metadata::Kind;
use tracing_core::subscriber::Interest;

use super::Logs;
use super::callers::Callers;
use super::record::{LONGEST, Record, tracing_level};
use super::taken::Taker;
use crate::error::{Error, Result};
use crate::sync::lock;
use crate::sys::gate::Running;
use crate::sys::own_fd::OwnFd;
use crate::sys::poll::{PollFd, poll};
use crate::sys::socket;

/// How long the end of a pool waits for the host's subscriber to take what is left. A subscriber
/// may be blocked by the thread that waits: by a lock on the standard output, for one.
const PATIENCE: Duration = Duration::from_secs(1);
/// Targets whose names are kept for ever, as `tracing` wants them. A program has some hundred; a
/// worker that invents names must not fill the host's memory.
const MOST_TARGETS: usize = 1024;
/// The target of records whose own is one too many.
const OTHER_TARGET: &str = "aiopool::worker";

/// The pair of sockets of a pool and the thread that reads it.
#[derive(Debug)]
pub(crate) struct Reader {
    workers_end: OwnFd,
    /// Never has a message: the thread drops the other end of it.
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    callers: Arc<Callers>,
}

impl Reader {
    /// Makes the pair, and the thread that gives what comes to the caller's subscriber.
    ///
    /// # Errors
    ///
    /// [`Error::System`]: what the system refuses.
    pub(crate) fn start(logs: &Logs) -> Result<Self> {
        Self::new(logs).map_err(|error| Error::system("make the way for what workers log", error))
    }

    fn new(logs: &Logs) -> io::Result<Self> {
        let taker = logs.taker.clone();
        let (hosts_end, workers_end) = socket::pair()?;
        let (end, ended) = mpsc::channel();
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        let callers = Arc::new(Callers::new(logs.task_spans));
        let theirs = Arc::clone(&callers);
        let thread = std::thread::Builder::new().name("aiopool-logs".to_owned());
        let running = Running::begin();
        let thread = thread.spawn(move || {
            let host = Host { subscriber, callers: theirs, taker };
            read(&hosts_end.into(), &host, &running);
            drop(end);
        })?;
        Ok(Self { workers_end: workers_end.into(), ended, thread: Some(thread), callers })
    }

    /// Returns where the spans of the tasks' callers are kept.
    pub(crate) fn callers(&self) -> Arc<Callers> {
        Arc::clone(&self.callers)
    }

    /// Returns the end that workers send on.
    pub(crate) fn workers_end(&self) -> BorrowedFd<'_> {
        self.workers_end.as_fd()
    }
}

impl Drop for Reader {
    /// Ends the thread once it has read what is there. To be dropped after the last worker's death.
    fn drop(&mut self) {
        if self.workers_end.is_ours() {
            let _ = socket::shut_down(self.workers_end.as_fd());
        }
        if self.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn read(hosts_end: &OwnFd, host: &Host, running: &Running) {
    let mut buffer = [0; LONGEST];
    loop {
        let mut fds = [PollFd::readable(hosts_end.as_fd())];
        // The process may be forked meanwhile.
        let ready = running.asleep(|| poll(&mut fds, None));
        if ready.is_err() || !hosts_end.is_ours() {
            return;
        }
        match socket::recv(hosts_end.as_fd(), &mut buffer) {
            Ok(Some(got)) => host.take(&buffer[..got.len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => host.take(&[]),
            Ok(None) | Err(_) => return,
        }
    }
}

/// The host's subscriber, or its logger.
struct Host {
    subscriber: Dispatch,
    callers: Arc<Callers>,
    /// What takes the records instead.
    taker: Option<Taker>,
}

impl Host {
    fn take(&self, bytes: &[u8]) {
        let Some(record) = Record::decode(bytes) else {
            return self.give(&Record {
                level: log::Level::Warn as u8,
                target: OTHER_TARGET,
                text: "a worker has sent bytes that are no log record",
                ..Record::default()
            });
        };
        if record.dropped > 0 {
            let text = format!(
                "{} log records of this worker were dropped: the host takes them too slowly",
                record.dropped
            );
            let Record { worker, pid, .. } = record;
            let (level, target) = (log::Level::Warn as u8, OTHER_TARGET);
            self.give(&Record { level, target, worker, pid, text: &text, ..Record::default() });
        }
        self.give(&record);
    }

    fn give(&self, record: &Record<'_>) {
        // A subscriber that panics must not end what all workers say.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match &self.taker {
            Some(taker) => taker.take(record),
            None if self.subscriber.is::<tracing::subscriber::NoSubscriber>() => {
                tell_logger(record);
            }
            None => self.tell_subscriber(record),
        }));
    }

    fn tell_subscriber(&self, record: &Record<'_>) {
        let metadata = metadata_of(record);
        if !self.subscriber.enabled(metadata) {
            return;
        }
        let field = |name| metadata.fields().field(name).expect("one of FIELDS");
        let spans = Some(record.spans).filter(|spans| !spans.is_empty());
        let values: [&dyn Value; FIELDS.len()] =
            [&record.text, &record.worker, &record.pid, &record.task, &record.function, &spans];
        let fields = FIELDS.map(field);
        let values: [_; FIELDS.len()] =
            std::array::from_fn(|index| (&fields[index], Some(values[index])));
        let values = metadata.fields().value_set(&values);
        let subscriber = &self.subscriber;
        tracing::dispatcher::with_default(subscriber, || {
            let caller = record.task.and_then(|task| self.callers.of(task));
            subscriber.event(&Event::new_child_of(caller, metadata, &values));
        });
    }
}

/// The metadata of events by level and target, for all pools of this process.
static TARGETS: LazyLock<Mutex<HashMap<(u8, String), &'static Metadata<'static>>>> =
    LazyLock::new(Mutex::default);

/// Returns the metadata of events of a record's level and target.
fn metadata_of(record: &Record<'_>) -> &'static Metadata<'static> {
    let level = record.level();
    let mut targets = lock(&TARGETS);
    if let Some(known) = targets.get(&(level as u8, record.target.to_owned())) {
        return known;
    }
    let target = if targets.len() >= MOST_TARGETS { OTHER_TARGET } else { record.target };
    targets
        .entry((level as u8, target.to_owned()))
        .or_insert_with(|| Site::make(level, target.to_owned()))
}

fn tell_logger(record: &Record<'_>) {
    let Record { text, worker, pid, .. } = record;
    let metadata = log::Metadata::builder().level(record.level()).target(record.target).build();
    if !log::logger().enabled(&metadata) {
        return;
    }
    let spans = match record.spans {
        "" => String::new(),
        spans => format!("{spans}: "),
    };
    let task = match (record.task, record.function) {
        (Some(task), Some(function)) => format!(" task={task} function={function}"),
        _ => String::new(),
    };
    log::logger().log(
        // In one expression: compilers before 1.89 drop what it borrows behind that.
        &log::Record::builder()
            .metadata(metadata)
            .args(format_args!("{spans}{text} worker={worker} pid={pid}{task}"))
            .build(),
    );
}

/// The fields of each event.
const FIELDS: [&str; 6] = ["message", "worker", "pid", "task", "function", "spans"];

/// Where `tracing` takes an event to come from: one for each level and target, kept for ever.
struct Site(OnceLock<Metadata<'static>>);

impl Site {
    fn make(level: log::Level, target: String) -> &'static Metadata<'static> {
        let level = tracing_level(level);
        let site: &'static Self = Box::leak(Box::new(Self(OnceLock::new())));
        let target: &'static str = target.leak();
        let fields = FieldSet::new(&FIELDS, Identifier(site));
        site.0.get_or_init(|| {
            let name = "a worker's record";
            Metadata::new(name, target, level, None, None, None, fields, Kind::EVENT)
        })
    }
}

impl Callsite for Site {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.0.get().expect("set where the site is made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Host {
        Host { subscriber: Dispatch::none(), callers: Arc::default(), taker: None }
    }

    #[test]
    fn workers_that_invent_targets_do_not_fill_the_hosts_memory() {
        let level = log::Level::Info as u8;
        let mut record = Record { level, target: "first", ..Record::default() };
        let first = std::ptr::from_ref(metadata_of(&record));
        let names: Vec<_> = (0..2 * MOST_TARGETS).map(|name| name.to_string()).collect();
        for name in &names {
            record.target = name;
            metadata_of(&record);
        }
        // One more for each level.
        assert!(lock(&TARGETS).len() <= MOST_TARGETS + 5);
        assert_eq!(metadata_of(&record).target(), OTHER_TARGET);
        record.target = "first";
        assert_eq!(std::ptr::from_ref(metadata_of(&record)), first, "another pool's is the same");
    }

    #[test]
    fn bytes_that_are_no_record_are_reported_and_nothing_else() {
        let host = silent();
        host.take(&[0xff; 100]);
        host.take(&[]);
    }
}
