//! The submitter's side of a cluster, or of a durable job, as an event loop of Python sees a pool.

use std::sync::{Arc, Mutex};

use aiopool::{TaskOptions, remote};
use aiopool_cluster::{Cluster as Engine, ClusterBuilder, ClusterError, end_job as end, observe};
use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::buffer::{Buffer, payload};
use crate::connection::{connection, raised};
use crate::direct::told;
use crate::errors::described_there;
use crate::handle::{END, Handle, Submitter, lock};
use crate::options::{Options, seconds, with_each};
use crate::pool::{LARGE, Ticket, Which};
use crate::ready::{Never, Ready};

/// A handle of a pool of nodes, or of a durable job.
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

impl Cluster {
    fn of(engine: Submitter) -> PyResult<Self> {
        Ok(Self {
            handle: Mutex::new(Some(Arc::new(Handle::new(engine)?))),
            owner: std::process::id(),
            forks: remote::forks(),
        })
    }

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
        let engine = py.detach(|| builder.connect_blocking());
        Self::of(Submitter::Cluster(engine.map_err(|error| raised(py, &error))?))
    }

    /// Begins or resumes the durable job `name`.
    fn job(&self, py: Python<'_>, name: &str) -> PyResult<Self> {
        let handle = self.get()?;
        let job = py.detach(|| handle.engine.job_blocking(name));
        Self::of(Submitter::Job(job.map_err(|error| raised(py, &error))?))
    }

    /// What nodes' workers log stays there.
    #[expect(clippy::unused_self, reason = "a pool has records")]
    fn records(&self) -> Option<crate::logs::Records> {
        None
    }

    /// The descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.get()?.descriptor())
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
        if !handle.has_room() {
            return Ok(py.None().into_bound(py));
        }
        let options = options.map_or_else(TaskOptions::new, |options| options.get().0);
        let buffers = parts.iter().map(|part| Buffer::of(&part)).collect::<PyResult<Vec<_>>>()?;
        let bytes: Vec<&[u8]> = buffers.iter().map(Buffer::bytes).collect();
        let large = bytes.iter().map(|part| part.len()).sum::<usize>() > LARGE;
        let joined = if large { py.detach(|| bytes.concat()) } else { bytes.concat() };
        match handle.submit(joined.into(), options, token) {
            Ok(Some(task)) => Ok(Bound::new(py, Ticket(task))?.into_any()),
            Ok(None) => Ok(py.None().into_bound(py)),
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
        let tokens = handle.arrived(limit);
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

    /// Calls a task off; one of a durable job goes on without its caller. False if it was over.
    fn cancel(&self, task: &Bound<'_, Ticket>) -> bool {
        let (Which::There { token, .. }, Ok(handle)) = (task.get().0, self.get()) else {
            return false;
        };
        handle.cancel(token)
    }

    /// Waits until a node of this version has places.
    fn ready(&self) -> PyResult<Ready> {
        let handle = self.get()?;
        Ready::of(async move {
            let ready = handle.engine.ready().await;
            ready.map_err(|error| Box::new(move |py: Python<'_>| raised(py, &error)) as Never)
        })
    }

    /// How many outcomes of a durable job were taken before it was resumed.
    fn taken(&self) -> PyResult<u64> {
        Ok(self.get()?.engine.job().map_or(0, |job| job.taken()))
    }

    /// Takes note that the caller has the outcome of this task of a durable job.
    fn note_taken(&self, number: u64) {
        if let Ok(handle) = self.get()
            && let Some(job) = handle.engine.job()
        {
            job.note_taken(number);
        }
    }

    /// Takes no more tasks, and ends a durable job when they are over.
    fn finish(&self) {
        if let Ok(handle) = self.get()
            && let Some(job) = handle.engine.job()
        {
            job.finish_when_over();
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
        self.get().is_ok_and(|handle| handle.has_ended())
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
            "queued": stats.queued,
            "running": stats.running,
            "ok": stats.ok,
            "failed": stats.failed,
            "panicked": stats.panicked,
            "cancelled": stats.cancelled,
            "timed_out": stats.timed_out,
            "worker_lost": stats.worker_lost,
            "node_lost": stats.node_lost,
            "pool_closed": stats.pool_closed,
            "other": stats.other,
            "retries": stats.retries,
            "nodes": engine.outcomes_by_node(),
        });
        Ok(said.to_string())
    }

    fn __repr__(&self) -> &'static str {
        "<aiopool._native.Cluster>"
    }
}

/// Ends the durable job `name`; false if there was none.
#[pyfunction]
pub fn end_job(
    py: Python<'_>,
    url: &str,
    connect: &Bound<'_, PyDict>,
    pool: &str,
    name: &str,
) -> PyResult<bool> {
    let connection = connection(url, connect)?;
    let ended = py.detach(|| aiopool::block_on(end(connection, pool, name)));
    ended.map_err(|error| raised(py, &error))
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
