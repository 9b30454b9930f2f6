//! The submitter's side of a cluster, as an event loop of Python sees a pool.
//!
//! A task's future is polled only here, by calls that submit and calls that receive: what wakes it, the
//! handle's thread, puts its token into a queue and rings. No thread of Rust's calls Python.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use aiopool::{TaskError, TaskOptions, remote};
use aiopool_cluster::{Cluster as Engine, ClusterBuilder, ClusterError, Task, observe};
use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::buffer::{Buffer, payload};
use crate::connection::{connection, raised};
use crate::direct::told;
use crate::errors::described_there;
use crate::options::{Options, seconds, with_each};
use crate::pool::{CALL, LARGE, Ticket, Which};

/// Stands in the queue for the end of the cluster's job.
const END: u64 = u64::MAX;

/// What has come, for the loop that watches the descriptor.
#[derive(Debug)]
struct Arrivals {
    /// As long as something is in it, a byte is on its way from `bell` to `watched`.
    queue: Mutex<VecDeque<u64>>,
    bell: UnixStream,
    watched: UnixStream,
}

impl Arrivals {
    fn new() -> std::io::Result<Self> {
        let (bell, watched) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        watched.set_nonblocking(true)?;
        Ok(Self { queue: Mutex::default(), bell, watched })
    }

    fn push(&self, token: u64) {
        let mut queue = lock(&self.queue);
        queue.push_back(token);
        if queue.len() == 1 {
            self.ring();
        }
    }

    fn ring(&self) {
        // There is room for it: no more than one byte is ever there.
        let _ = (&self.bell).write(&[1]);
    }

    /// Takes up to `limit` tokens.
    fn take(&self, limit: usize) -> Vec<u64> {
        let mut queue = lock(&self.queue);
        if queue.is_empty() {
            return Vec::new();
        }
        let count = limit.min(queue.len());
        let taken = queue.drain(..count).collect();
        if queue.is_empty() {
            let _ = (&self.watched).read(&mut [0]);
        }
        taken
    }
}

/// Puts a token into the queue.
struct Token(u64, Arc<Arrivals>);

impl Wake for Token {
    fn wake(self: Arc<Self>) {
        self.1.push(self.0);
    }
}

/// A task whose outcome was not given yet.
enum Out {
    Waits(Task<Bytes>),
    Over(Result<Bytes, ClusterError>, u32),
}

type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What there is while the job is not freed.
struct Handle {
    tasks: Mutex<HashMap<u64, Out>>,
    end: Mutex<End>,
    /// Whether the job's end was received: every outcome was before it.
    ended: AtomicBool,
    arrivals: Arc<Arrivals>,
    engine: Arc<Engine>,
}

/// A handle of a pool of nodes.
#[pyclass(frozen, module = "aiopool._native")]
pub struct Cluster {
    handle: Mutex<Option<Arc<Handle>>>,
    /// The process that has connected, and what tells it from its forks.
    owner: u32,
    forks: u32,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may wait for the server: not with the interpreter held up.
        if let Some(handle) = lock(&self.handle).take() {
            Python::try_attach(|py| py.detach(|| drop(handle)));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    fn waker(&self, token: u64) -> Waker {
        Waker::from(Arc::new(Token(token, Arc::clone(&self.arrivals))))
    }

    /// Looks whether the job has ended, and has its end wake us if not.
    fn look_for_end(&self) {
        let waker = self.waker(END);
        if lock(&self.end).as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.ended.store(true, Ordering::Release);
        }
    }

    /// Submits a task; false if there is no room.
    fn submit(&self, input: Bytes, options: TaskOptions, token: u64) -> Result<bool, ClusterError> {
        // The thread that receives the outcome finds the task.
        let mut tasks = lock(&self.tasks);
        let task = self.engine.with(options).apply_named(CALL, input).submitted_now();
        let mut task = match task {
            Err(ClusterError::Task(TaskError::NotSubmitted(error)))
                if matches!(*error, aiopool::Error::Full) =>
            {
                return Ok(false);
            }
            task => task?,
        };
        let waker = self.waker(token);
        let out = match pin!(&mut task).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => Out::Waits(task),
            Poll::Ready(outcome) => {
                self.arrivals.push(token);
                Out::Over(outcome, task.attempts())
            }
        };
        tasks.insert(token, out);
        Ok(true)
    }

    /// Takes the outcome that a token says has come.
    fn outcome(&self, token: u64) -> Option<(Result<Bytes, ClusterError>, u32)> {
        let mut tasks = lock(&self.tasks);
        match tasks.remove(&token)? {
            Out::Over(outcome, attempts) => Some((outcome, attempts)),
            Out::Waits(mut task) => {
                let waker = self.waker(token);
                match pin!(&mut task).poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(outcome) => Some((outcome, task.attempts())),
                    Poll::Pending => {
                        tasks.insert(token, Out::Waits(task));
                        None
                    }
                }
            }
        }
    }
}

impl Cluster {
    fn get(&self) -> PyResult<Arc<Handle>> {
        if remote::forks() != self.forks {
            // A thread that had a lock when the process was forked is not here.
            return Err(PyRuntimeError::new_err(format!(
                "process {} is a fork of process {}, which connected: connect again here",
                std::process::id(),
                self.owner
            )));
        }
        lock(&self.handle).clone().ok_or_else(|| PyRuntimeError::new_err("the cluster is gone"))
    }
}

fn with_one(
    builder: ClusterBuilder,
    name: &str,
    value: &Bound<'_, PyAny>,
) -> PyResult<ClusterBuilder> {
    Ok(match name {
        "pool" => builder.pool(value.extract::<String>()?),
        "version" => builder.version(value.extract::<String>()?),
        "lease" => builder.lease(seconds(name, value.extract()?)?),
        "capacity" => builder.capacity(value.extract()?),
        _ => return Err(PyTypeError::new_err(format!("{name} is no option of a cluster"))),
    })
}

/// Returns an outcome as Python sees it; see `direct::seen`.
fn seen(
    py: Python<'_>,
    outcome: Result<Bytes, ClusterError>,
    attempts: u32,
) -> PyResult<(Option<&'static str>, Bound<'_, PyAny>)> {
    match outcome {
        Ok(bytes) => Ok((None, payload(py, &bytes))),
        Err(error) => {
            let (kind, details) = described_there(py, &error)?;
            details.set_item("attempts", attempts)?;
            Ok((Some(kind), details.into_any()))
        }
    }
}

#[pymethods]
impl Cluster {
    /// Connects to the servers at `url`; options that are None are as if they were not there.
    #[new]
    fn new(
        py: Python<'_>,
        url: &str,
        connect: &Bound<'_, PyDict>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let builder = with_each(Engine::builder(connection(url, connect)?), options, with_one)?;
        let arrivals = Arc::new(Arrivals::new()?);
        let engine = py.detach(|| builder.connect_blocking());
        let engine = Arc::new(engine.map_err(|error| raised(py, &error))?);
        let ends = Arc::clone(&engine);
        let handle = Handle {
            tasks: Mutex::default(),
            end: Mutex::new(Box::pin(async move { ends.join().await })),
            ended: AtomicBool::new(false),
            arrivals,
            engine,
        };
        handle.look_for_end();
        Ok(Self {
            handle: Mutex::new(Some(Arc::new(handle))),
            owner: std::process::id(),
            forks: remote::forks(),
        })
    }

    /// What nodes' workers log stays there.
    #[expect(clippy::unused_self, reason = "a pool has records")]
    fn records(&self) -> Option<crate::logs::Records> {
        None
    }

    /// The descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.get()?.arrivals.watched.as_raw_fd())
    }

    /// Submits a task whose input is in `parts`; see `Pool.submit`.
    #[pyo3(signature = (parts, token, name, options=None, queue=None))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        parts: &Bound<'py, PyList>,
        token: u64,
        name: &str,
        options: Option<&Bound<'py, Options>>,
        queue: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // The name is the caller's, for messages; nodes have one queue.
        let _ = (name, queue);
        let handle = self.get()?;
        let stats = handle.engine.stats();
        if stats.outstanding >= stats.capacity {
            return Ok(py.None().into_bound(py));
        }
        let options = options.map_or_else(TaskOptions::new, |options| options.get().0);
        let buffers = parts.iter().map(|part| Buffer::of(&part)).collect::<PyResult<Vec<_>>>()?;
        let bytes: Vec<&[u8]> = buffers.iter().map(Buffer::bytes).collect();
        let large = bytes.iter().map(|part| part.len()).sum::<usize>() > LARGE;
        let joined = if large { py.detach(|| bytes.concat()) } else { bytes.concat() };
        match handle.submit(joined.into(), options, token) {
            Ok(true) => Ok(Bound::new(py, Ticket(Which::There(token)))?.into_any()),
            Ok(false) => Ok(py.None().into_bound(py)),
            Err(error) => Ok(described_there(py, &error)?.into_pyobject(py)?.into_any()),
        }
    }

    /// Takes up to `limit` outcomes; see `Pool.receive`.
    fn receive<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let _ = event_loop;
        let list = PyList::empty(py);
        let Ok(handle) = self.get() else {
            return (list, 0, py.None()).into_pyobject(py);
        };
        let tokens = handle.arrivals.take(limit);
        for &token in &tokens {
            if token == END {
                handle.look_for_end();
                continue;
            }
            match handle.outcome(token) {
                None => {}
                Some((outcome, attempts)) => {
                    told(&list, None, token, seen(py, outcome, attempts));
                }
            }
        }
        (list, tokens.len(), py.None()).into_pyobject(py)
    }

    /// Calls a task off. False if it was over.
    fn cancel(&self, task: &Bound<'_, Ticket>) -> bool {
        let (Which::There(token), Ok(handle)) = (task.get().0, self.get()) else { return false };
        match lock(&handle.tasks).get_mut(&token) {
            Some(Out::Waits(task)) => {
                task.cancel();
                true
            }
            _ => false,
        }
    }

    /// Takes no more tasks.
    fn close(&self) {
        if let Ok(handle) = self.get() {
            handle.engine.close();
        }
    }

    /// Calls every task off, and ends the job.
    fn terminate(&self) {
        if let Ok(handle) = self.get() {
            handle.engine.terminate();
        }
    }

    /// Whether the job has ended, and all outcomes were received.
    fn ended(&self) -> bool {
        self.get().is_ok_and(|handle| handle.ended.load(Ordering::Acquire))
    }

    /// Ends what is left of the job, and waits for that for some seconds at most.
    fn free(&self, py: Python<'_>) {
        let handle = lock(&self.handle).take();
        py.detach(|| drop(handle));
    }

    /// The job as it is now, as JSON.
    fn snapshot(&self) -> PyResult<String> {
        let engine = &self.get()?.engine;
        let stats = engine.stats();
        let said = serde_json::json!({
            "submitted": stats.submitted,
            "outstanding": stats.outstanding,
            "capacity": stats.capacity,
            "nodes": engine.outcomes_by_node(),
        });
        Ok(said.to_string())
    }

    fn __repr__(&self) -> &'static str {
        "<aiopool._native.Cluster>"
    }
}

/// What there is of `pool` on the servers at `url`, as JSON.
#[pyfunction]
pub fn nodes(
    py: Python<'_>,
    url: &str,
    connect: &Bound<'_, PyDict>,
    pool: &str,
) -> PyResult<String> {
    let connection = connection(url, connect)?;
    let seen = py.detach(|| aiopool::block_on(observe(connection, pool)));
    let seen = seen.map_err(|error| raised(py, &error))?;
    serde_json::to_string(&seen).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
