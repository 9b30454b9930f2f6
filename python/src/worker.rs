//! The worker's side: this process serves a pool's tasks in an event loop of Python.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aiopool::{AttachedWorker, Completion, LogSender};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use tracing::Level;

use crate::buffer::Buffer;
use crate::errors::raised;
use crate::serve::{self, Functions};
use crate::step::Variable;

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
    /// The task whose code runs in a context.
    current: Variable,
    /// Tasks that several items of a map share: how many were begun is what these say.
    chunks: Mutex<Vec<u64>>,
    /// Tasks that the host has submitted again by itself, and how many attempts it knows of.
    again: Mutex<Vec<(u64, u32)>>,
}

impl Worker {
    pub(crate) fn of(py: Python<'_>, worker: AttachedWorker) -> PyResult<Self> {
        Ok(Self {
            log: worker.log_sender(),
            worker: Mutex::new(Some(worker)),
            functions: Functions::default(),
            current: Variable::new(py, c"aiopool.task")?,
            chunks: Mutex::default(),
            again: Mutex::default(),
        })
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
    fn new(py: Python<'_>) -> PyResult<Self> {
        Self::of(py, AttachedWorker::attach().map_err(|error| raised(&error))?)
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

    /// [`progress`](Self::progress) of the task whose code asks. False, and nothing said, outside of
    /// tasks, of one that is over, and of an item that shares a task.
    fn own_progress(&self, py: Python<'_>, number: u64) -> PyResult<bool> {
        let Some(task) = self.current(py)? else { return Ok(false) };
        if self.chunks().contains(&task) {
            return Ok(false);
        }
        // As in `task_number`.
        let Ok(mut worker) = self.worker.try_lock() else { return Ok(false) };
        let Some(worker) = worker.as_mut() else { return Ok(false) };
        if worker.host_number(task).is_none() {
            return Ok(false);
        }
        worker.progress(task, number).map_err(|error| raised(&error))?;
        Ok(true)
    }

    /// Says that the task which was begun last has had its first step: what the loop does from now on
    /// is not its doing. Nothing once the worker has left.
    pub(crate) fn begun(&self) {
        let _ = self.with(|worker| {
            worker.begun();
            Ok(())
        });
    }

    /// The number that the host knows the task by whose code asks, also in asyncio tasks that it has
    /// started; None outside of tasks, and of one that is over.
    fn task_number(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        let task = self.current(py)?;
        // The lock is held by this very thread where that fails.
        let worker = self.worker.try_lock().ok();
        Ok(task.zip(worker).and_then(|(task, worker)| worker.as_ref()?.host_number(task)))
    }

    /// Whether the task whose code asks was cancelled, ran out of time, or is over; False outside
    /// of tasks.
    fn is_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(task) = self.current(py)? else { return Ok(false) };
        // As in `task_number`.
        let worker = self.worker.try_lock().ok();
        Ok(worker.is_some_and(|worker| worker.as_ref().is_none_or(|it| it.is_cancelled(task))))
    }

    /// The number of this attempt of the task whose code asks, from 1; None outside of tasks, and
    /// of one that is over.
    fn attempt(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        let Some(task) = self.current(py)? else { return Ok(None) };
        let again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        let before = again.iter().find(|known| known.0 == task).map_or(0, |known| known.1);
        // As in `task_number`.
        let worker = self.worker.try_lock().ok();
        let here = worker.and_then(|worker| worker.as_ref()?.attempt(task));
        Ok(here.map(|here| here.saturating_add(before)))
    }

    /// Takes note that a task had `attempts` before it was submitted.
    fn tried_before(&self, task: u64, attempts: u32) -> PyResult<()> {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        self.with(|worker| {
            again.retain(|&(task, _)| worker.attempt(task).is_some());
            again.push((task, attempts));
            Ok(())
        })
    }

    /// Sends a log record to the host; False if the host takes none.
    fn log(
        &self,
        py: Python<'_>,
        level: i64,
        logger: &str,
        text: &str,
        place: &str,
    ) -> PyResult<bool> {
        let Some(log) = &self.log else { return Ok(false) };
        let number = self.task_number(py)?;
        let level = match level {
            40.. => Level::ERROR,
            30.. => Level::WARN,
            20.. => Level::INFO,
            10.. => Level::DEBUG,
            _ => Level::TRACE,
        };
        log.send(level, logger, text, place, number);
        Ok(true)
    }

    /// Calls `function` with the items that have no result yet, in their order, and adds the results.
    /// Says before each item how many were begun. Returns the error that ended this, if one did.
    /// `spent` is how many nanoseconds the items with results have taken.
    fn call_each<'py>(
        &self,
        task: u64,
        function: &Bound<'py, PyAny>,
        items: &Bound<'py, PyList>,
        star: bool,
        results: &Bound<'py, PyList>,
        spent: u64,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut chunks = self.chunks();
        if !chunks.contains(&task) {
            chunks.push(task);
        }
        drop(chunks);
        let longest = LONGEST.saturating_sub(Duration::from_nanos(spent));
        let began = Instant::now();
        for index in results.len()..items.len() {
            if index > 0 && began.elapsed() > longest {
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
        self.chunks().retain(|&chunk| chunk != task);
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
    /// Says whose code runs from now on, in the current context and in those that are copied from it.
    pub(crate) fn runs(&self, py: Python<'_>, task: u64) -> PyResult<()> {
        self.current.set(task.into_pyobject(py)?.as_any())
    }

    /// The task whose code runs in the current context, if it is a task's; it may be over.
    fn current(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        self.current.get(py)?.map(|task| task.extract()).transpose()
    }

    fn chunks(&self) -> MutexGuard<'_, Vec<u64>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complete(&self, task: u64, completion: Completion<'_>) -> PyResult<()> {
        self.chunks().retain(|&chunk| chunk != task);
        self.with(|worker| worker.complete(task, completion).map_err(|error| raised(&error)))
    }
}
