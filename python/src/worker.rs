//! The worker's side: this process serves a pool's tasks in an event loop of Python.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aiopool::{AttachedWorker, Completion, EventInPlace};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::buffer::{Buffer, payload};
use crate::errors::raised;
use crate::pool::{CALL, Tuple};

/// How long a chunk may go on with its next item: ten times what it is made for.
const LONGEST: Duration = Duration::from_millis(20);

/// This process as a worker of the pool that started it.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Worker(Mutex<Option<AttachedWorker>>);

impl Worker {
    pub(crate) fn of(worker: AttachedWorker) -> Self {
        Self(Mutex::new(Some(worker)))
    }

    fn with<T>(&self, f: impl FnOnce(&mut AttachedWorker) -> PyResult<T>) -> PyResult<T> {
        let mut worker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = || PyRuntimeError::new_err("this worker has left its pool");
        f(worker.as_mut().ok_or_else(left)?)
    }

    fn take(&self) -> Option<AttachedWorker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Worker {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self::of(AttachedWorker::attach().map_err(|error| raised(&error))?))
    }

    /// The bytes that the pool was given for its workers.
    fn setup<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.with(|worker| Ok(PyBytes::new(py, worker.initializer_argument().unwrap_or_default())))
    }

    /// The worker's seat in its pool, counted from 0.
    #[getter]
    fn seat(&self) -> PyResult<u32> {
        self.with(|worker| Ok(worker.worker_id()))
    }

    /// Tasks that this worker may have in flight.
    #[getter]
    fn concurrency(&self) -> PyResult<usize> {
        self.with(|worker| Ok(worker.child_concurrency()))
    }

    /// The descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        self.with(|worker| Ok(worker.as_fd().as_raw_fd()))
    }

    /// What to do next: None for nothing, `(task, bytes)` to run, `(task, None)` to cancel,
    /// `(None, None)` to leave.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Tuple<'py>>> {
        self.with(|worker| {
            loop {
                let foreign = match worker.next_in_place() {
                    EventInPlace::Nothing => return Ok(None),
                    EventInPlace::Run { task, function, .. } if function != CALL => task,
                    EventInPlace::Run { task, input, .. } => {
                        return Ok(Some((task, payload(py, input)).into_pyobject(py)?));
                    }
                    EventInPlace::Cancel { task } => {
                        return Ok(Some((task, py.None()).into_pyobject(py)?));
                    }
                    _ => return Ok(Some((py.None(), py.None()).into_pyobject(py)?)),
                };
                let text = "this worker runs Python functions only";
                worker.complete(foreign, Completion::Refused(text)).map_err(|e| raised(&e))?;
            }
        })
    }

    /// Says how far a task is; the host sees it, also after this process's death.
    fn progress(&self, task: u64, number: u64) -> PyResult<()> {
        self.with(|worker| worker.progress(task, number).map_err(|error| raised(&error)))
    }

    /// Calls `function` with the items that have no result yet, in their order, and adds the results.
    /// Says before each item how many were begun. Returns the error that ended this, if one did.
    fn call_each<'py>(
        &self,
        task: u64,
        function: &Bound<'py, PyAny>,
        items: &Bound<'py, PyList>,
        star: bool,
        results: &Bound<'py, PyList>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let results_before = results.len();
        let began = Instant::now();
        for index in results.len()..items.len() {
            if index > results_before && began.elapsed() > LONGEST {
                // What is left is for whichever worker has time.
                break;
            }
            let item = items.get_item(index)?;
            self.progress(task, index as u64 + 1)?;
            let called = match item.cast::<PyTuple>() {
                Ok(arguments) if star => function.call1(arguments),
                _ => function.call1((item,)),
            };
            match called {
                Ok(result) => results.append(result)?,
                Err(error) => {
                    return Ok(Some(
                        error.into_value(function.py()).into_bound(function.py()).into_any(),
                    ));
                }
            }
        }
        Ok(None)
    }

    /// Says that a task ended with the value whose bytes are in `parts`.
    fn succeed(&self, task: u64, parts: &Bound<'_, PyList>) -> PyResult<()> {
        let buffers = parts.iter().map(|part| Buffer::of(&part)).collect::<PyResult<Vec<_>>>()?;
        let bytes: Vec<&[u8]> = buffers.iter().map(Buffer::bytes).collect();
        self.with(|worker| worker.complete_parts(task, &bytes).map_err(|error| raised(&error)))
    }

    /// Says that a task ended `how`: "failed", "unencodable", "refused" or "cancelled".
    #[pyo3(signature = (task, how, text=""))]
    fn end(&self, task: u64, how: &str, text: &str) -> PyResult<()> {
        let completion = match how {
            "failed" => Completion::Failed(text),
            "unencodable" => Completion::Unencodable(text),
            "refused" => Completion::Refused(text),
            "cancelled" => Completion::Cancelled,
            _ => return Err(PyValueError::new_err(format!("no task ends as {how:?}"))),
        };
        self.complete(task, completion)
    }

    /// Tells the pool why this worker cannot start. The process ends after this.
    fn fail(&self, reason: &str) {
        if let Some(worker) = self.take() {
            worker.fail(reason);
        }
    }

    /// Leaves the pool in order. The process ends after this.
    fn leave(&self) {
        if let Some(worker) = self.take() {
            worker.leave();
        }
    }
}

impl Worker {
    fn complete(&self, task: u64, completion: Completion<'_>) -> PyResult<()> {
        self.with(|worker| worker.complete(task, completion).map_err(|error| raised(&error)))
    }
}
