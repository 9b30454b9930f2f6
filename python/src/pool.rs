//! The host's side: a pool whose outcomes an event loop of Python receives.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError};

use aiopool::{Error, NamedFunction, PolledPool, PolledTask, TaskOptions};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyTuple};

use crate::buffer::Buffer;
use crate::builder;
use crate::call::Call;
use crate::connection::of_package;
use crate::direct::{self, Direct, Items};
use crate::errors::{described, raised};
use crate::logs::Records;
use crate::options::{Options, seconds};
use crate::ready::{Never, Ready};
use crate::trace::Trace;

/// The name of functions that have none of their own in the pool. Which function is called is in the
/// input; names are for the pool's numbers and messages.
pub(crate) const CALL: &str = "aiopool.call";

/// Names a submitted task.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Ticket(pub(crate) Which);

/// Where the task is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// In a pool of this machine.
    Here(PolledTask),
    /// In a cluster, by its token, and by its number in the job.
    There { token: u64, number: Option<u64> },
}

#[pymethods]
impl Ticket {
    /// The task's number in its durable job; None in a pool.
    #[getter]
    fn number(&self) -> Option<u64> {
        match self.0 {
            Which::Here(_) => None,
            Which::There { number, .. } => number,
        }
    }
}

/// A pool of worker processes.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Pool {
    pool: Mutex<Option<Arc<PolledPool>>>,
    call: NamedFunction,
    /// Names of functions that the pool knows.
    names: Mutex<HashMap<String, NamedFunction>>,
    pub(crate) direct: Direct,
    records: Mutex<Option<Records>>,
}

/// The exception for workers that will never be there.
fn never(py: Python<'_>, error: &Error) -> PyErr {
    match error {
        Error::Failed(reason) => match &**reason {
            Error::Initializer(text) => of_package(py, "InitializerFailed", text),
            reason => of_package(py, "PoolClosed", &reason.to_string()),
        },
        Error::Closed => of_package(py, "PoolClosed", &error.to_string()),
        _ => raised(error),
    }
}

/// Inputs larger than this are copied without holding the interpreter up, in bytes.
pub(crate) const LARGE: usize = 256 << 10;
/// Bytes that the pool keeps of a function's name.
const LONGEST_NAME: usize = 224;

impl Pool {
    /// Returns what the pool calls a function in its numbers and messages.
    pub(crate) fn named(&self, pool: &PolledPool, name: &str) -> NamedFunction {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&known) = names.get(name) {
            return known;
        }
        let end = name.floor_char_boundary(LONGEST_NAME);
        // Beyond those that a pool has room for, functions have one name together.
        let Ok(function) = pool.function(&name[..end]) else { return self.call };
        names.insert(name.to_owned(), function);
        function
    }

    /// Calls a task off; the pool kills a worker that still has it `kill_after` seconds later. False
    /// if it was over.
    fn call_off(&self, task: PolledTask, kill_after: Option<f64>) -> PyResult<bool> {
        let within = kill_after.map(|value| seconds("kill_after", value)).transpose()?;
        let Ok(pool) = self.get() else { return Ok(false) };
        Ok(match within {
            Some(grace) => pool.cancel_within(task, grace),
            None => pool.cancel(task),
        })
    }

    pub(crate) fn get(&self) -> PyResult<Arc<PolledPool>> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.clone().ok_or_else(|| PyRuntimeError::new_err("the pool is gone"))
    }
}

#[pymethods]
impl Pool {
    /// `options` by name; those that are None are as if they were not there.
    #[new]
    #[pyo3(signature = (command, setup, options, *, preloaded=false, logs=false))]
    fn new(
        py: Python<'_>,
        command: Vec<OsString>,
        setup: Vec<u8>,
        options: &Bound<'_, PyDict>,
        preloaded: bool,
        logs: bool,
    ) -> PyResult<Self> {
        let builder = aiopool::Pool::builder()
            .start_method(builder::start_method(command, preloaded))
            .initializer_bytes(setup);
        let mut builder = builder::with(builder, options)?;
        let mut records = None;
        if logs {
            let (theirs, option) = Records::of_a_pool()?;
            (records, builder) = (Some(theirs), builder.logs(option));
        }
        let started = py.detach(|| {
            let pool = PolledPool::new(builder.build()?)?;
            let call = pool.function(CALL)?;
            Ok((pool, call))
        });
        let (pool, call) = started.map_err(|error| raised(&error))?;
        Ok(Self {
            pool: Mutex::new(Some(Arc::new(pool))),
            call,
            names: Mutex::default(),
            direct: Direct::default(),
            records: Mutex::new(records),
        })
    }

    /// Gives what workers log to the first caller; None to later ones, and if nothing brings it here.
    fn records(&self) -> Option<Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.get()?.as_fd().as_raw_fd())
    }

    /// Submits a task whose input is in `parts`. None if the pool is full; a tuple as `receive`
    /// gives it if the task was refused.
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
        let pool = self.get()?;
        let options = options.map_or_else(TaskOptions::new, |options| options.get().0);
        let buffers = parts.iter().map(|part| Buffer::of(&part)).collect::<PyResult<Vec<_>>>()?;
        let bytes: Vec<&[u8]> = buffers.iter().map(Buffer::bytes).collect();
        let call = self.named(&pool, name);
        let push = || pool.submit(call, &bytes, options, queue, token);
        let large = bytes.iter().map(|part| part.len()).sum::<usize>() > LARGE;
        match if large { py.detach(push) } else { push() } {
            Ok(task) => Ok(Bound::new(py, Ticket(Which::Here(task)))?.into_any()),
            Err(error) if error.is_full() => Ok(py.None().into_bound(py)),
            Err(error) => Ok(described(py, &error)?.into_pyobject(py)?.into_any()),
        }
    }

    /// Runs the call in `parts` once in every worker: the outcome of seat `n` has the number
    /// `token + n`. A tuple as `receive` gives it if it was refused; then no worker runs it.
    #[pyo3(signature = (parts, token, name, options=None))]
    fn broadcast<'py>(
        &self,
        py: Python<'py>,
        parts: &Bound<'py, PyList>,
        token: u64,
        name: &str,
        options: Option<&Bound<'py, Options>>,
    ) -> PyResult<Option<(&'static str, Bound<'py, PyDict>)>> {
        let pool = self.get()?;
        let options = options.map_or_else(TaskOptions::new, |options| options.get().0);
        let buffers = parts.iter().map(|part| Buffer::of(&part)).collect::<PyResult<Vec<_>>>()?;
        let bytes: Vec<&[u8]> = buffers.iter().map(Buffer::bytes).collect();
        let call = self.named(&pool, name);
        match pool.broadcast(call, &bytes, options, token) {
            Ok(()) => Ok(None),
            Err(error) => described(py, &error).map(Some),
        }
    }

    /// Takes up to `limit` outcomes in the thread of `event_loop`, and gives `(outcomes, count,
    /// awakened)`: what Python has to see to, how many there were, and the tasks that go on.
    ///
    /// An outcome is `(whose, None, bytes)` or `(whose, kind, details)`, for a map's items
    /// `(results, None, size)` when some have come; `whose` is a number, a call or `(results, place)`.
    fn receive<'py>(
        &self,
        limit: usize,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        direct::receive(self, limit, event_loop)
    }

    /// Looks for outcomes for a moment, in the only event loop that watches the descriptor, and gives
    /// what `receive` gives, or None. It gives way to what makes the descriptor `others` readable.
    ///
    /// After this the descriptor says nothing until `receive` has found less than it may.
    fn search<'py>(
        &self,
        limit: usize,
        event_loop: &Bound<'py, PyAny>,
        others: i32,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        direct::search(self, limit, event_loop, others)
    }

    /// Submits the call of `function`, which goes by its name, with plain arguments. None if it
    /// is not such a call, or not taken now: then it is Python's to submit.
    #[pyo3(signature = (function, arguments, event_loop, options=None))]
    fn call<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyAny>,
        event_loop: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, Options>>,
    ) -> PyResult<Option<Bound<'py, Call>>> {
        direct::call(self, function, arguments, event_loop, options)
    }

    /// Calls off the task of a call, as `cancel` does. False if it was over.
    #[pyo3(signature = (call, kill_after=None))]
    fn cancel_call(&self, call: &Bound<'_, Call>, kill_after: Option<f64>) -> PyResult<bool> {
        let task = self.direct.on_the_way.task(call.get().token);
        task.map_or(Ok(false), |task| self.call_off(task, kill_after))
    }

    /// Submits items of a map as calls that begin with `start`, up to `room` of them, the first in
    /// place `index`. Gives `(count, why, what)`: how many, and why no more: "room", "end", "item"
    /// for one that is Python's to submit, "error" of the iterator.
    #[pyo3(signature = (items, results, start, iterator, star, index, room, options=None))]
    #[expect(clippy::too_many_arguments, reason = "what a map knows")]
    fn feed<'py>(
        &self,
        items: &Bound<'py, Items>,
        results: &Bound<'py, PyAny>,
        start: &[u8],
        iterator: &Bound<'py, PyIterator>,
        star: bool,
        index: u64,
        room: usize,
        options: Option<&Bound<'py, Options>>,
    ) -> PyResult<(usize, &'static str, Py<PyAny>)> {
        let first = direct::Feed { items, results, start, star, options };
        direct::feed(self, &first, iterator, index, room)
    }

    /// Calls off the tasks of a map that are on their way, as `cancel` does.
    #[pyo3(signature = (items, kill_after=None))]
    fn cancel_items(&self, items: &Bound<'_, Items>, kill_after: Option<f64>) -> PyResult<()> {
        for task in self.direct.on_the_way.tasks_of(&items.get().0) {
            self.call_off(task, kill_after)?;
        }
        Ok(())
    }

    /// How many tasks are on their way of which Python has no number.
    fn on_the_way(&self) -> usize {
        self.direct.on_the_way.len()
    }

    /// After the end: those whose outcomes will never come, as calls and `(results, place)`.
    fn abandoned<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for whose in self.direct.on_the_way.take_all() {
            list.append(direct::named(py, whose)?)?;
        }
        Ok(list)
    }

    /// Calls a task off; the pool kills a worker that still has it `kill_after` seconds later. False
    /// if it was over.
    #[pyo3(signature = (task, kill_after=None))]
    fn cancel(&self, task: &Bound<'_, Ticket>, kill_after: Option<f64>) -> PyResult<bool> {
        let Which::Here(task) = task.get().0 else { return Ok(false) };
        self.call_off(task, kill_after)
    }

    /// Calls a task off that no worker has. False if one has it, or if it was over.
    fn cancel_queued(&self, task: &Bound<'_, Ticket>) -> bool {
        let Which::Here(task) = task.get().0 else { return false };
        self.get().is_ok_and(|pool| pool.cancel_queued(task))
    }

    /// Takes no more tasks.
    fn close(&self, py: Python<'_>) {
        if let Ok(pool) = self.get() {
            py.detach(|| pool.close());
        }
    }

    /// Ends every task, and has the workers leave.
    fn terminate(&self, py: Python<'_>) {
        if let Ok(pool) = self.get() {
            py.detach(|| pool.terminate());
        }
    }

    /// Whether the pool has ended; raises what ended it, if that was not its owner.
    fn ended(&self) -> PyResult<bool> {
        match self.get()?.ended() {
            None => Ok(false),
            Some(ended) => ended.map(|()| true).map_err(|error| raised(&error)),
        }
    }

    /// Waits until a closed or terminated pool has ended, without holding the interpreter up.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        let Ok(pool) = self.get() else { return Ok(()) };
        py.detach(|| pool.pool().join_blocking()).map_err(|error| raised(&error))
    }

    /// Kills what is left of the pool and waits for that.
    fn free(&self, py: Python<'_>) {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(pool));
    }

    /// The process ids of the workers that are alive.
    fn workers(&self) -> Vec<u32> {
        self.get().map(|pool| pool.pool().worker_pids()).unwrap_or_default()
    }

    /// The pool as it is now, as JSON.
    fn snapshot(&self, py: Python<'_>) -> PyResult<String> {
        let pool = self.get()?;
        Ok(py.detach(|| pool.pool().snapshot().to_json()))
    }

    /// Begins a timeline of every `every`-th task, for the file at `path`.
    fn trace(&self, py: Python<'_>, path: std::path::PathBuf, every: u32) -> PyResult<Trace> {
        let pool = self.get()?;
        let trace = py.detach(|| pool.pool().trace_sampled(path, every));
        trace.map(Trace::new).map_err(|error| raised(&error))
    }

    /// What a task has printed to its standard output and error.
    fn printed<'py>(
        &self,
        py: Python<'py>,
        task: u64,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let pool = self.get()?;
        let printed = py.detach(|| pool.pool().printed(task)).map_err(|error| raised(&error))?;
        Ok((PyBytes::new(py, &printed.stdout), PyBytes::new(py, &printed.stderr)))
    }

    /// Waits until every worker can take tasks.
    fn ready(&self) -> PyResult<Ready> {
        let pool = self.get()?;
        Ready::of(async move {
            let ready = pool.pool().ready().await;
            ready.map_err(|error| Box::new(move |py: Python<'_>| never(py, &error)) as Never)
        })
    }

    /// How many workers the pool keeps.
    fn processes(&self) -> PyResult<usize> {
        Ok(self.get()?.pool().processes())
    }

    fn __repr__(&self) -> String {
        format!("<aiopool._native.Pool of {:?}>", self.workers())
    }
}
