//! The worker's side: this process serves a pool's tasks in an event loop of Python.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aiopool::{AttachedWorker, Completion, LogSender};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use tracing::Level;

use crate::buffer::Buffer;
use crate::errors::raised;
use crate::serve::{self, Functions};

/// How long a chunk may go on with its next item: ten times what it is made for.
const LONGEST: Duration = Duration::from_millis(20);

/// This process as a worker of the pool that started it.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Worker {
    worker: Mutex<Option<AttachedWorker>>,
    pub(crate) functions: Functions,
    /// Not behind the lock: what is freed while a task is taken may have something to say.
    log: Option<LogSender>,
    /// The task whose first step is being made, for what it logs.
    pub(crate) current: Current,
}

/// The task whose first step is being made, or none: a number that no task has.
#[derive(Debug)]
pub(crate) struct Current(AtomicU64);

impl Default for Current {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Current {
    pub(crate) fn is(&self, task: Option<u64>) {
        self.0.store(task.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&task| task != u64::MAX)
    }
}

impl Worker {
    pub(crate) fn of(worker: AttachedWorker) -> Self {
        Self {
            log: worker.log_sender(),
            worker: Mutex::new(Some(worker)),
            functions: Functions::default(),
            current: Current::default(),
        }
    }

    pub(crate) fn with<T>(
        &self,
        f: impl FnOnce(&mut AttachedWorker) -> PyResult<T>,
    ) -> PyResult<T> {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let left = || PyRuntimeError::new_err("this worker has left its pool");
        f(worker.as_mut().ok_or_else(left)?)
    }

    fn take(&self) -> Option<AttachedWorker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner).take()
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

    /// Takes tasks, at most `limit`, and begins each. True if there may be more.
    ///
    /// What is not usual about a task, `served` does. Before there is nothing to do, it looks for a
    /// moment, and gives way to what makes the descriptor `others` readable; -1 for no such look.
    fn serve(&self, served: &Bound<'_, PyAny>, limit: usize, others: i32) -> PyResult<bool> {
        serve::serve(self, served, limit, others)
    }

    /// Ends a task whose function has returned `result`, or has it awaited. True if a coroutine has
    /// had its first step.
    fn called(
        &self,
        served: &Bound<'_, PyAny>,
        task: u64,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        serve::called(self, served, task, result)
    }

    /// Says how far a task is; the host sees it, also after this process's death.
    fn progress(&self, task: u64, number: u64) -> PyResult<()> {
        self.with(|worker| worker.progress(task, number).map_err(|error| raised(&error)))
    }

    /// Says that the task which was begun last has had its first step: what the loop does from now on
    /// is not its doing. Nothing once the worker has left.
    pub(crate) fn begun(&self) {
        let _ = self.with(|worker| {
            worker.begun();
            Ok(())
        });
    }

    /// The task whose first step is being made, if one is.
    fn current(&self) -> Option<u64> {
        self.current.get()
    }

    /// The number that the host knows a task by that was begun here and is not over.
    fn host_number(&self, task: u64) -> PyResult<Option<u32>> {
        self.with(|worker| Ok(worker.host_number(task)))
    }

    /// Sends a log record to the host; False if the host takes none.
    #[pyo3(signature = (level, logger, text, place, task=None))]
    fn log(&self, level: i64, logger: &str, text: &str, place: &str, task: Option<u64>) -> bool {
        let Some(log) = &self.log else { return false };
        // The lock is held by this very thread where that fails.
        let number = task.and_then(|task| {
            let worker = self.worker.try_lock().ok()?;
            worker.as_ref()?.host_number(task)
        });
        let level = match level {
            40.. => Level::ERROR,
            30.. => Level::WARN,
            20.. => Level::INFO,
            10.. => Level::DEBUG,
            _ => Level::TRACE,
        };
        log.send(level, logger, text, place, number);
        true
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
        // What a function still refers to, such as the open files of its module, would not end with
        // the interpreter.
        self.functions.forget();
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
