//! What workers log, until the host's `logging` takes it.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use aiopool::{LogRecord, Logs};
use pyo3::prelude::*;

/// Records that wait for the interpreter; those beyond wait in the pool's socket, and where that is
/// full, workers drop and count.
const ROOM: usize = 256;

/// A record: level, logger, text, what is known of its place, seat, process id, task.
type Row = (u8, String, String, String, u32, u32, Option<u32>);

/// The records of one pool's workers.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Records {
    waiting: Arc<Waiting>,
    bell: UnixStream,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: Mutex<Rows>,
    room: Condvar,
}

#[derive(Debug, Default)]
struct Rows {
    rows: VecDeque<Row>,
    /// Nobody will take any more.
    closed: bool,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, record: &LogRecord<'_>) {
        let full = |rows: &mut Rows| rows.rows.len() >= ROOM && !rows.closed;
        let rows = self.room.wait_while(self.lock(), full);
        let mut rows = rows.unwrap_or_else(PoisonError::into_inner);
        if !rows.closed {
            let level = match record.level.as_str() {
                "ERROR" => 40,
                "WARN" => 30,
                "INFO" => 20,
                "DEBUG" => 10,
                _ => 5,
            };
            rows.rows.push_back((
                level,
                record.target.to_owned(),
                record.text.to_owned(),
                record.spans.to_owned(),
                record.worker,
                record.pid,
                record.task,
            ));
        }
    }
}

impl Records {
    /// Where the records of a pool that is about to be built go, and the option that says so. The
    /// descriptor is at its end when the pool has ended.
    pub(crate) fn of_a_pool() -> std::io::Result<(Self, Logs)> {
        let (bell, ring) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        let waiting: Arc<Waiting> = Arc::default();
        let to = Arc::clone(&waiting);
        // Python's loggers have decided already.
        let logs = aiopool::logs().filter("trace").hand_to(move |record| {
            to.push(record);
            // Where that is full, there is enough to wake the reader.
            let _ = (&ring).write(&[1]);
        });
        Ok((Self { waiting, bell }, logs))
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.waiting.lock().closed = true;
        self.waiting.room.notify_all();
    }
}

#[pymethods]
impl Records {
    /// The descriptor to read from until its end: there are records after each reading.
    fn fileno(&self) -> i32 {
        self.bell.as_raw_fd()
    }

    /// Takes what has come.
    fn take(&self) -> Vec<Row> {
        let rows = std::mem::take(&mut self.waiting.lock().rows);
        self.waiting.room.notify_all();
        rows.into()
    }
}
